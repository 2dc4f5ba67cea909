"""Reading a file once: what the other tests of files and predictors leave open."""

from concurrent.futures import CancelledError
from pathlib import Path
from threading import Event, Thread, get_ident

import numpy as np
import pytest

from avser.errors import ConfigError
from avser.media.clip import load_clip
from avser.media.faces import Detection
from avser.testing.media import voice, write_video
from avser.types import STEP_S


class StopAtFirst:
    """A detector that sees nobody, and presses Ctrl-C when it first looks."""

    def __init__(self) -> None:
        self.looks, self.stopped = 0, Event()

    def __call__(self, image: np.ndarray) -> list[Detection]:  # type: ignore[type-arg]
        self.looks += 1
        self.stopped.set()
        return []


def test_a_file_that_nobody_waits_for_is_not_read_on(tmp_path: Path) -> None:
    seconds = 20.0
    pictures = np.full((round(seconds * 5), 32, 32, 3), 96, np.uint8)
    path = write_video(tmp_path / "a.mp4", pictures, samples=voice("sad", seconds=seconds), fps=5)
    detector = StopAtFirst()
    with pytest.raises(CancelledError):
        load_clip(path, detector=detector, faces=True, stopped=detector.stopped)
    assert 1 <= detector.looks < seconds / STEP_S / 2  # two looks a step
    with load_clip(path, detector=detector, faces=True) as result:  # not without being asked
        assert result.duration_s == pytest.approx(seconds, abs=0.1)


def film(path: Path, *, seconds: float) -> Path:
    """A film whose pictures grow brighter, without sound."""
    levels = np.linspace(16, 235, round(seconds * 10)).astype(np.uint8)
    pictures = np.broadcast_to(levels[:, None, None, None], (len(levels), 32, 32, 3))
    return write_video(path, np.ascontiguousarray(pictures), fps=10)


def test_pictures_are_looked_at_in_their_order_beside_the_decoding(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", seconds=8.0)
    seen: list[float] = []
    threads: set[int] = set()

    def detector(image: np.ndarray) -> list[Detection]:  # type: ignore[type-arg]
        seen.append(float(image.mean()))
        threads.add(get_ident())
        return []

    with load_clip(path, detector=detector, faces=True) as result:
        assert result.faces is not None and result.faces.sampled == len(seen) > 25
    assert seen == sorted(seen) and len(threads) == 1 and get_ident() not in threads


def test_a_detector_that_fails_ends_the_reading_with_its_error(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", seconds=20.0)
    looks = 0

    def detector(image: np.ndarray) -> list[Detection]:  # type: ignore[type-arg]
        nonlocal looks
        looks += 1
        if looks == 3:
            raise ConfigError("Bad detector: it has had enough.")
        return []

    with pytest.raises(ConfigError, match="had enough"):
        load_clip(path, detector=detector, faces=True)
    assert looks < 40  # of 78: what was decoded ahead, and no more


def test_decoding_waits_for_a_slow_detector(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", seconds=20.0)
    going, read = Event(), [0.0]

    def detector(image: np.ndarray) -> list[Detection]:  # type: ignore[type-arg]
        going.wait(60)
        return []

    def load() -> None:
        with load_clip(
            path, detector=detector, faces=True, progress=lambda now, _: read.append(now)
        ):
            pass

    decoding = Thread(target=load)
    decoding.start()
    decoding.join(0.5)
    assert decoding.is_alive() and max(read) < 10
    going.set()
    decoding.join(60)
    assert max(read) == pytest.approx(20, abs=0.2)
