"""Stages of classifying a talking head, in CPU time, which other programs change less.

Each stage of `avser.media.clip.load_clip` is run by itself on the same film; the networks are timed
inside of whole predictions. Detection is compared with facenet-pytorch's own cascade on the same
frames, which is what following faces saves, and the whole with the usual pipeline, run once.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from avser.inference.predictor import Predictor
from avser.media.decoders import Frame
from avser.media.faces import (
    DETECT_HEIGHT,
    Detection,
    FaceCollector,
    MtcnnDetector,
    VideoFaceDetector,
    sample_times,
)
from avser.media.faces.cascade import MIN_FACE
from avser.media.reader import open_media, read_audio
from avser.types import STEP_S
from benchmarks.features import described
from benchmarks.footage import av_predictor, write_film
from benchmarks.measure import Goal, Report, Row, threads
from benchmarks.video import USUAL, ours, usual

FULL = {"seconds": 4, "repeats": 5}
QUICK = {"seconds": 1, "repeats": 1}

WHOLE, EVERY = "the whole clip", "facenet-pytorch on each of these frames"
DECODING, DETECTION, CROPS = "decoding", "detection", "crops, tracking, lips"
FACE, VOICE, REST = "face network", "voice network", "all else"


def decode(path: Path) -> list[Frame]:
    """Decode sound and picture as `load_clip` does; give the sampled frames."""
    with open_media(
        path, frame_times=sample_times(), frame_height=DETECT_HEIGHT, block_s=STEP_S
    ) as reader:
        return [frame for block in reader for frame in block.frames]


def detect(frames: list[Frame], detector: MtcnnDetector) -> list[list[Detection]]:
    """Detect and follow the faces in sampled frames."""
    video = VideoFaceDetector(detector)
    return [video(frame) for frame in frames]


def collect(frames: list[Frame], detections: list[list[Detection]]) -> int:
    """Cut out, track and compare faces whose places are known; give their number."""
    known = iter(detections)
    with FaceCollector(detector=lambda _: next(known)) as collector:
        for frame in frames:
            collector.add(frame)
        return collector.finish().detected


def reference(frames: list[Frame], mtcnn: Any) -> int:  # noqa: ANN401
    """Detect faces with facenet-pytorch's cascade, as small ones as ours; give their number."""
    mtcnn.min_face_size = max(20, MIN_FACE * frames[0].image.shape[0])
    images = (torch.from_numpy(np.ascontiguousarray(frame.image)) for frame in frames)
    return sum(mtcnn.detect(image[None].float())[0][0] is not None for image in images)


def cpu_s(run: Callable[[], object]) -> float:
    """CPU time of all threads of this process, in seconds."""
    start = time.process_time()
    run()
    return time.process_time() - start


@contextmanager
def timed(networks: Mapping[str, nn.Module]) -> Iterator[dict[str, float]]:
    """CPU time spent in each network so far, in seconds, by name."""
    spent = dict.fromkeys(networks, 0.0)
    started: dict[str, float] = {}
    handles = []
    for name, network in networks.items():

        def before(_net: nn.Module, _inputs: Any, name: str = name) -> None:  # noqa: ANN401
            started[name] = time.process_time()

        def after(_net: nn.Module, _in: Any, _out: Any, name: str = name) -> None:  # noqa: ANN401
            spent[name] += time.process_time() - started[name]

        handles += [network.register_forward_pre_hook(before)]
        handles += [network.register_forward_hook(after)]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


def stages(path: Path, predictor: Predictor, *, repeats: int) -> dict[str, float]:
    """Median CPU time of each stage of one clip, in seconds; the whole clip's wall time too."""
    from facenet_pytorch import MTCNN

    detector, mtcnn = MtcnnDetector(), MTCNN(keep_all=True)
    frames = decode(path)
    detections = detect(frames, detector)
    networks = {FACE: predictor.net.video, VOICE: predictor.net.audio}
    modules = {name: net for name, net in networks.items() if net is not None}
    ours(path, predictor)
    reference(frames, mtcnn)
    taken: dict[str, list[float]] = {}
    for _ in range(repeats):
        with timed(modules) as spent:
            start = time.perf_counter()
            row = {WHOLE: cpu_s(lambda: ours(path, predictor))}
            row["wall"] = time.perf_counter() - start
        row |= spent | {
            DECODING: cpu_s(lambda: decode(path)),
            DETECTION: cpu_s(lambda: detect(frames, detector)),
            CROPS: cpu_s(lambda: collect(frames, detections)),
            EVERY: cpu_s(lambda: reference(frames, mtcnn)),
        }
        for name, seconds in row.items():
            taken.setdefault(name, []).append(seconds)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    described(read_audio(path))  # librosa compiles some of its functions when they are first used
    return {**medians, USUAL: cpu_s(lambda: usual(path, MTCNN()))}


def measure(*, seconds: int, repeats: int) -> Report:
    """Time the stages with one compute thread."""
    import cv2

    before = cv2.getNumThreads()
    with TemporaryDirectory() as folder, threads(1):
        cv2.setNumThreads(1)
        path = write_film(Path(folder) / "clip.mp4", seconds)
        predictor, what = av_predictor()
        times = stages(path, predictor, repeats=repeats)
    cv2.setNumThreads(before)
    return Report(
        "video_stages: parts of classifying a talking head",
        f"{seconds} s of H.264 and AAC, 1280 × 720, 30 pictures a second; CPU time of all threads, "
        f"one compute thread, decoders as they please; median of {repeats}; {what}; wall time of "
        f"the whole clip {times['wall']:.2f} s",
        rows(times),
    )


def rows(times: Mapping[str, float]) -> list[Row]:
    """Compare; ``times`` are seconds by the names of the stages."""
    parts = {name: times[name] for name in (DECODING, DETECTION, CROPS, FACE, VOICE)}
    parts[REST] = max(0.0, times[WHOLE] - sum(parts.values()))
    whole = 1000 * times[WHOLE]
    return [
        Row(
            ours=WHOLE,
            value=whole,
            unit="ms of CPU",
            alternative=USUAL,
            other=1000 * times[USUAL],
            goal=Goal("ratio", 40),
        ),
        *(
            Row(
                ours=name,
                value=1000 * value,
                unit="ms of CPU",
                alternative=WHOLE,
                other=whole,
                note=f"{value / times[WHOLE]:.0%}",
            )
            for name, value in parts.items()
        ),
        Row(
            ours=DETECTION,
            value=1000 * times[DETECTION],
            unit="ms of CPU",
            alternative=EVERY,
            other=1000 * times[EVERY],
            goal=Goal("ratio", 2),
        ),
    ]
