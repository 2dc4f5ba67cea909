"""Benchmarks: avser against named alternatives, measured in one run.

``python -m benchmarks`` from the root of the repository runs all, ``python -m benchmarks features``
one. Every figure is a ratio to an alternative that was measured in the same minutes, in turn, with
as many threads; absolute figures stand beside it, and hold for one machine on one day.
"""
