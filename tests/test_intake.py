"""Reading a file once: what the other tests of files and predictors leave open."""

from concurrent.futures import CancelledError
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from avser.faces import Detection
from avser.intake import take_in
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
        take_in(path, detector=detector, faces=True, stopped=detector.stopped)
    assert 1 <= detector.looks < seconds / STEP_S / 2  # two looks a step
    with take_in(path, detector=detector, faces=True) as found:  # not without being asked
        assert found.duration_s == pytest.approx(seconds, abs=0.1)
