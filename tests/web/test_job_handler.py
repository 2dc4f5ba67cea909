import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from avser.errors import MediaError, SignalError
from avser.testing.media import face_frames, voice, write_video, write_wav
from avser.testing.nets import tiny_bundle
from avser.web.job_handler import JobHandler, load
from avser.web.jobs import Annotate, Classify, JobResult
from avser.web.limits import TooLongError


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> JobHandler:
    return load(model=str(tiny_bundle(tmp_path_factory.mktemp("model") / "tiny")))


@pytest.fixture(autouse=True)
def usual_temporary_folder() -> Iterator[None]:
    yield
    tempfile.tempdir = None


def write_late(path: Path, samples: np.ndarray, *, start_s: int) -> Path:
    """Write sound whose first time stamp is a late one."""
    with av.open(str(path), "w") as made:
        stream = made.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for start in range(0, len(samples), 1_600):
            block = (samples[None, start : start + 1_600] * 32_767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
            frame.pts = start_s * 16_000 + start
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return path


def classified(handler: JobHandler, job: Classify) -> JobResult:
    answer = handler(job)
    assert isinstance(answer, JobResult)
    return answer


def test_clip_is_classified_as_the_predictor_does(handler: JobHandler, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "clip", voice("happy", seconds=1.2))
    answer = classified(handler, Classify(path=path))
    assert answer.prediction == handler.predictor(path) and answer.plot == b""
    assert [model.row["name"] for model in handler.models] == ["tiny"]
    assert not handler.models[0].has_video and handler.models[0].card.startswith("# tiny")
    assert torch.get_num_threads() == 1


def test_timeline_is_drawn_where_asked(handler: JobHandler, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "clip", voice("happy"))
    assert classified(handler, Classify(path=path, plot=True)).plot.startswith(b"\x89PNG")


def test_clip_that_lasts_too_long_is_refused(handler: JobHandler, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "clip", voice("happy", seconds=3.0))
    with pytest.raises(TooLongError, match="longer than the 2 s that this server takes"):
        handler(Classify(path=path, longest_s=2.0))
    assert classified(handler, Classify(path=path, longest_s=3.2)).prediction.label


def test_a_clip_that_starts_late_lasts_as_long_as_it_is(
    handler: JobHandler, tmp_path: Path
) -> None:
    """A recorder's clock may begin at any time: the duration is less the start."""
    path = write_late(tmp_path / "clip.mkv", voice("happy", seconds=3.0), start_s=1_000)
    found = classified(handler, Classify(path=path, longest_s=4.0)).prediction
    assert found.duration_s == pytest.approx(3.0, abs=0.1) and found.label is not None
    with pytest.raises(TooLongError):
        handler(Classify(path=path, longest_s=2.0))


def test_bad_clip_and_missing_stream_are_refused(handler: JobHandler, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_text("no media")
    with pytest.raises(MediaError, match="no recording"):
        handler(Classify(path=path))
    write_video(path.with_suffix(".mp4"), face_frames("sad", count=8))
    with pytest.raises(SignalError, match="no audio stream"):
        handler(Classify(path=path.with_suffix(".mp4"), modality="audio"))


def test_temporary_files_stay_in_the_folder_of_the_clip(
    handler: JobHandler, tmp_path: Path
) -> None:
    path = write_wav(tmp_path / "clip", voice("happy"))
    handler(Classify(path=path))
    assert Path(tempfile.gettempdir()) == tmp_path


def test_copy_is_drawn_on(handler: JobHandler, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", face_frames("sad", count=8), samples=voice("sad"))
    found = classified(handler, Classify(path=path)).prediction
    video = handler(Annotate(path=path, prediction=found))
    assert isinstance(video, bytes) and video[4:8] == b"ftyp"
