"""Material of the video benchmarks: films of one talking head, and a net for voice and face."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import cycle
from math import ceil, pi, sin
from pathlib import Path
from typing import Any

import av
import numpy as np

from avser.bundle import serialization as bundle
from avser.inference.predictor import Predictor
from avser.models.encoders.faces import FaceEncoder
from avser.models.factory import build_net
from avser.testing.faces import Person, head, read_picture, scene
from benchmarks.material import EMOTIONS, parameters, slots, take
from benchmarks.measure import ROOT

PERIOD_S = 4.0  # of the head's movement; pictures of one period are made once and then repeated
_HEAD = 0.55  # height of the head, as a share of the picture's
_BITS = 0.2  # a pixel: costs what a clip of RAVDESS, 8 Mbit/s, costs to decode (measured)
_TAKES = 32  # different ones; a long film repeats them


def write_film(
    path: Path,
    seconds: float,
    *,
    size: tuple[int, int] = (720, 1280),
    fps: int = 30,
    sample_rate: int = 48_000,
    preset: str = "veryfast",
) -> Path:
    """Write H.264 and AAC, stored side by side as cameras do: a real face that sways, and a voice.

    Args:
        path: of the file.
        seconds: its length.
        size: (H, W) in pixels.
        fps: pictures a second.
        sample_rate: of the sound, in Hz.
        preset: of the H.264 encoder.
    """
    count = min(_TAKES, ceil(seconds / 3))
    samples = np.concatenate([take(n, sample_rate=sample_rate)[1] for n in range(count)])
    packed = np.round(samples * 32_767).astype(np.int16)
    each = sample_rate / fps
    with av.open(str(path), "w") as file:
        picture: Any = file.add_stream("libx264", rate=fps, options={"preset": preset})
        picture.height, picture.width = size
        picture.bit_rate = round(_BITS * size[0] * size[1] * fps)
        picture.pix_fmt = "yuv420p"
        sound: Any = file.add_stream("aac", rate=sample_rate, layout="mono")
        sound.options = {"aac_coder": "fast"}
        images = cycle(_images(size, fps))
        for index in range(round(seconds * fps)):
            image = next(images)
            image.pts, image.time_base = index, Fraction(1, fps)
            file.mux(picture.encode(image))
            span = np.arange(round(index * each), round((index + 1) * each))
            block = av.AudioFrame.from_ndarray(
                packed.take(span, mode="wrap")[None], format="s16", layout="mono"
            )
            block.sample_rate, block.time_base = sample_rate, Fraction(1, sample_rate)
            block.pts = int(span[0])
            file.mux(sound.encode(block))
        file.mux(picture.encode(None))
        file.mux(sound.encode(None))
    return path


def _images(size: tuple[int, int], fps: int) -> Iterator[av.VideoFrame]:
    """The pictures of one period, as the encoder takes them."""
    face = head(read_picture(ROOT / "examples" / "face.jpg"), height=round(_HEAD * size[0]))
    turns = [2 * pi * index / (PERIOD_S * fps) for index in range(round(PERIOD_S * fps))]
    person = Person(face, [(0.5 + 0.05 * sin(t), 0.5 + 0.02 * sin(2 * t)) for t in turns])
    for index in range(len(turns)):
        image = scene([person], index=index, size=size)
        yield av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")


def av_slots() -> dict[str, Any]:
    """Settings of a net for both: the voice's and the face's own, joined by cross-attention."""
    joint = {"class_path": "avser.models.fusion.joint.JointCrossAttentionFusion"}
    return {**slots("audio_crnn"), "video": slots("face_cnn")["video"], "fusion": joint}


def av_predictor() -> tuple[Predictor, str]:
    """The default model and its name, or, where it has no face half, an untrained one like it."""
    if bundle.default() == bundle.DEFAULT_AV_MODEL:
        predictor = Predictor.from_pretrained(device="cpu")
        if isinstance(predictor.net.video, FaceEncoder):
            return predictor, f"released model {predictor.name}"
    import torch

    torch.manual_seed(0)
    net = build_net(av_slots(), EMOTIONS).eval()
    what = f"untrained net of audio_crnn, face_cnn and joint cross-attention, {parameters(net)}"
    return Predictor(net, name="untrained", device="cpu"), what
