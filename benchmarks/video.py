"""A talking head, from the file to the answer: avser against the usual pipeline.

The usual pipeline is what most published code for this task does per clip: decode every frame with
OpenCV, find the face in each with facenet-pytorch's MTCNN at its defaults and at full size, and
take librosa's features of the sound (see `benchmarks.features`). It ends there: the network that
would judge what it found is not in its time. As it owes most of its time to looking at every
frame, a row stands beside in which it looks as seldom as avser does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avser.inference.predictor import Predictor
from avser.media.faces import FACES_PER_STEP
from avser.media.reader import probe, read_audio
from avser.types import STEP_S
from benchmarks.features import Vector, described
from benchmarks.footage import av_predictor, write_film
from benchmarks.measure import Goal, Report, Row, in_turn, medians, threads

FULL = {"seconds": 4, "repeats": 3}
QUICK = {"seconds": 1, "repeats": 1}
FPS = 30
SELDOM = round(STEP_S / FACES_PER_STEP * FPS)  # every 8th frame: avser's own pace
OURS = "avser"
USUAL = "usual pipeline, every frame"
SPARSE = f"usual pipeline, every {SELDOM}th frame"


@dataclass(frozen=True)
class Found:
    """Output of the usual pipeline for a clip: sampled frames, detected faces, audio features."""

    looked: int
    faces: int
    features: Vector


def usual(path: Path, detector: Any, *, every: int = 1) -> Found:  # noqa: ANN401
    """Faces and features of one clip as usually made.

    Args:
        path: of the clip.
        detector: a facenet-pytorch ``MTCNN``; gives a cropped face, or None.
        every: look at every so many-th frame; all are decoded.
    """
    import cv2

    film = cv2.VideoCapture(str(path))
    number = looked = faces = 0
    while True:
        there, image = film.read()
        if not there:
            break
        if number % every == 0:
            looked += 1
            faces += detector(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)) is not None
        number += 1
    film.release()
    # librosa needs an ffmpeg command for mp4: it is given the samples, decoded as ours are
    return Found(looked, faces, described(read_audio(path)))


def ours(path: Path, predictor: Predictor) -> None:
    """Classify one clip; a benchmark of a clip whose face or voice is missed would be worthless.

    Raises:
        RuntimeError: not both streams were used.
    """
    answer = predictor(path)
    if answer.modalities != ("audio", "video"):
        raise RuntimeError(f"Bad benchmark clip {path}: {answer.reason}; look at what is in it.")


def measure(*, seconds: int, repeats: int, count: int = 2) -> Report:
    """Time both on the same clip, with ``count`` threads each."""
    import cv2
    from facenet_pytorch import MTCNN

    before = cv2.getNumThreads()
    with TemporaryDirectory() as folder, threads(count):
        cv2.setNumThreads(count)
        path = write_film(Path(folder) / "clip.mp4", seconds, fps=FPS)
        predictor, what = av_predictor()
        detector = MTCNN()
        runs = {
            OURS: lambda: ours(path, predictor),
            USUAL: lambda: usual(path, detector),
            SPARSE: lambda: usual(path, detector, every=SELDOM),
        }
        times = medians(in_turn(runs, repeats=repeats))
        info = probe(path)
    cv2.setNumThreads(before)
    return Report(
        "video: classifying a talking head, end to end",
        f"{seconds} s of H.264 and AAC, {info.width} × {info.height}, {FPS} pictures a second; "
        f"{count} compute threads each, decoders as they please; median of {repeats}; models "
        f"loaded; ours: {what}; usual: OpenCV, MTCNN at its defaults, librosa, no network",
        rows(times, seconds=info.duration_s or float(seconds)),
    )


def rows(times: Mapping[str, float], *, seconds: float) -> list[Row]:
    """Compare; ``times`` are seconds for a clip that lasts ``seconds``."""
    against = {USUAL: Goal("ratio", 40), SPARSE: None}
    return [
        *(
            Row(
                ours="avser, sound and face",
                value=times[OURS],
                unit="s/clip",
                alternative=name,
                other=times[name],
                goal=goal,
            )
            for name, goal in against.items()
        ),
        Row(
            ours="avser, sound and face: real-time factor",
            value=times[OURS] / seconds,
            unit="s a second",
            alternative="watching it",
            other=1.0,
            goal=Goal("at most", 0.1),
        ),
    ]
