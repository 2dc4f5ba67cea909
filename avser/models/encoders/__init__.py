"""Encoders of sound and of picture."""
