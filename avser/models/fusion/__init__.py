"""Fusions of the audio and the video stream."""
