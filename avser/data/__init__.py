"""Datasets and batches of prepared clips, caches, and splits."""
