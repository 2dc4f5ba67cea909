"""Shared fixtures: every test has a cache of its own, and no test reaches a network."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the commands that tests start
# A cache of compiled functions for each worker: two that fill one cache at once can damage it.
os.environ["NUMBA_CACHE_DIR"] = str(
    Path(__file__).parents[1]
    / ".pytest_cache"
    / f"numba-{os.environ.get('PYTEST_XDIST_WORKER', '')}"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep prepared data inside the test's folder."""
    monkeypatch.setenv("AVSER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AVSER_DATA", raising=False)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Make every test deterministic."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)  # tests run side by side; more threads than cores only wait
