"""Prepared clips as datasets and batches; caches; splits."""
