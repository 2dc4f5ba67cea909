"""Metrics, predictions over a data set, summaries, tables and reports."""
