import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from avser.errors import ConfigError, MediaError, SignalError
from avser.testing.media import face_frames, voice, write_video, write_wav
from avser.testing.nets import tiny_bundle
from avser.web.job_handler import JobHandler, load
from avser.web.jobs import Classify, JobResult, Progress, Render
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


def ignore(_progress: Progress) -> None:
    """Report nothing."""


def classified(handler: JobHandler, job: Classify) -> JobResult:
    answer = handler(job, ignore)
    assert isinstance(answer, JobResult)
    return answer


def test_clip_is_classified_as_the_predictor_does(handler: JobHandler, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "clip", voice("happy", seconds=1.2))
    answer = classified(handler, Classify(path=path))
    assert answer.prediction == handler.predictor(path)
    assert (answer.voice, answer.peaks) == (None, ())
    assert [model.row["name"] for model in handler.models] == ["tiny"]
    assert not handler.models[0].has_video and handler.models[0].card.startswith("# tiny")
    assert torch.get_num_threads() == 1


def test_details_have_the_waveform_and_progress_is_reported(
    handler: JobHandler, tmp_path: Path
) -> None:
    quiet = np.zeros(16_000, np.float32)
    path = write_wav(tmp_path / "clip", np.concatenate([voice("happy", seconds=1.0), quiet]))
    reports: list[Progress] = []
    answer = handler(Classify(path=path, details=True), reports.append)
    assert isinstance(answer, JobResult) and not answer.has_video and answer.voice is None
    assert len(answer.peaks) == 600
    assert max(answer.peaks[:295]) > 0.2 and max(answer.peaks[305:]) < 0.001
    assert reports[0] == Progress(stage="decode", share=0.0)
    assert reports[-1] == Progress(stage="model", share=1.0)
    assert all(report.stage == "decode" for report in reports[:-1])


def test_model_is_chosen_by_name(handler: JobHandler, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "clip", voice("happy"))
    assert classified(handler, Classify(path=path, model="tiny")).prediction.model == "tiny"
    with pytest.raises(ConfigError, match="Bad model 'big': expected one of tiny"):
        handler(Classify(path=path, model="big"), ignore)


@pytest.mark.parametrize(
    ("format", "start"),
    [("pdf", b"%PDF"), ("png", b"\x89PNG"), ("vtt", b"WEBVTT"), ("eaf", b"<?xml")],
)
def test_prediction_is_written_in_other_formats(
    handler: JobHandler, tmp_path: Path, format: str, start: bytes
) -> None:
    path = write_wav(tmp_path / "clip", voice("happy"))
    prediction = classified(handler, Classify(path=path)).prediction
    job = Render(prediction=prediction, format=format, path=None, folder=tmp_path)
    content = handler(job, ignore)
    assert isinstance(content, bytes) and content.startswith(start)
    with pytest.raises(ConfigError, match="send the clip as file"):
        handler(replace(job, format="mp4"), ignore)


def test_clip_that_lasts_too_long_is_refused(handler: JobHandler, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "clip", voice("happy", seconds=3.0))
    with pytest.raises(TooLongError, match="longer than the 2 s that this server takes"):
        handler(Classify(path=path, longest_s=2.0), ignore)
    assert classified(handler, Classify(path=path, longest_s=3.2)).prediction.label


def test_a_clip_that_starts_late_lasts_as_long_as_it_is(
    handler: JobHandler, tmp_path: Path
) -> None:
    """A recorder's clock may begin at any time: the duration is less the start."""
    path = write_late(tmp_path / "clip.mkv", voice("happy", seconds=3.0), start_s=1_000)
    result = classified(handler, Classify(path=path, longest_s=4.0)).prediction
    assert result.duration_s == pytest.approx(3.0, abs=0.1) and result.label is not None
    with pytest.raises(TooLongError):
        handler(Classify(path=path, longest_s=2.0), ignore)


def test_bad_clip_and_missing_stream_are_refused(handler: JobHandler, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_text("no media")
    with pytest.raises(MediaError, match="no recording"):
        handler(Classify(path=path), ignore)
    write_video(path.with_suffix(".mp4"), face_frames("sad", count=8))
    with pytest.raises(SignalError, match="no audio stream"):
        handler(Classify(path=path.with_suffix(".mp4"), modality="audio"), ignore)


def test_temporary_files_stay_in_the_folder_of_the_clip(
    handler: JobHandler, tmp_path: Path
) -> None:
    path = write_wav(tmp_path / "clip", voice("happy"))
    handler(Classify(path=path), ignore)
    assert Path(tempfile.gettempdir()) == tmp_path


def test_copy_is_drawn_on(handler: JobHandler, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", face_frames("sad", count=8), samples=voice("sad"))
    result = classified(handler, Classify(path=path)).prediction
    video = handler(Render(path=path, prediction=result, format="mp4", folder=tmp_path), ignore)
    assert isinstance(video, bytes) and video[4:8] == b"ftyp"
