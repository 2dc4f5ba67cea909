"""Prediction on media files, samples and streams."""
