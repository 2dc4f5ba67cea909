"""Secure aggregation, privacy accounting, leakage audit."""
