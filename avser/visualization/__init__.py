"""Figures of results and clips, and annotated video."""
