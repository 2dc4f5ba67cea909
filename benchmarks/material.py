"""Material of the benchmarks: clips like a corpus's, and the networks of ``configs/model``."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from avser.models.factory import build_net
from avser.models.net import EmotionNet
from avser.testing.media import voice, write_wav

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")

Samples = NDArray[np.float32]


def take(number: int, *, sample_rate: int = 48_000) -> tuple[str, Samples]:
    """Emotion and sound of one take, ``[S]``: 3 to 4 s, of which the middle half is voice.

    RAVDESS is like that: 3.5 s in the median, 1.7 s of it within 35 dB of the peak.
    """
    rng = np.random.default_rng(number)
    emotion = EMOTIONS[number % len(EMOTIONS)]
    seconds = rng.uniform(3.0, 4.0)
    spoken = voice(
        emotion,
        speaker=str(number % 24),
        seconds=seconds / 2,
        sample_rate=sample_rate,
        seed=number,
    )
    edges = rng.normal(0, 3e-4, (2, round(seconds / 4 * sample_rate)))  # -70 dBFS: a quiet room
    return emotion, np.concatenate([edges[0], spoken, edges[1]]).astype(np.float32)


def write_clips(folder: Path, count: int) -> list[Path]:
    """Write 48 kHz mono 16-bit wav files, named by number and emotion."""
    paths = []
    for number in range(count):
        emotion, samples = take(number)
        path = folder / f"{number:04d}-{emotion}.wav"
        paths.append(write_wav(path, samples, sample_rate=48_000))
    return paths


def write_recording(path: Path, minutes: float) -> Path:
    """Write one long 16 kHz mono FLAC of many takes, a minute at a time."""
    import soundfile

    takes = [take(number, sample_rate=16_000)[1] for number in range(32)]
    rng = np.random.default_rng(0)
    left = round(minutes * 60 * 16_000)
    with soundfile.SoundFile(path, "w", 16_000, 1, format="FLAC") as file:
        for samples in _shuffled(takes, rng):
            file.write(samples[:left])
            left -= len(samples)
            if left <= 0:
                return path
    return path


def _shuffled(takes: list[Samples], rng: np.random.Generator) -> Iterator[Samples]:
    while True:
        for index in rng.permutation(len(takes)):
            yield takes[index]


def settings(name: str) -> dict[str, Any]:
    """The YAML of ``configs/model/<name>.yaml``."""
    result: dict[str, Any] = yaml.safe_load(
        (files("avser.configs") / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    )
    return result


def slots(name: str) -> dict[str, Any]:
    """The settings of a configured model's network alone."""
    model = settings(name)["model"]
    return {slot: model[slot] for slot in ("audio", "video", "fusion", "head") if model.get(slot)}


def untrained(name: str) -> EmotionNet:
    """The network of a configured model with random weights: they cost what trained ones cost."""
    import torch

    torch.manual_seed(0)
    return build_net(slots(name), EMOTIONS).eval()


def parameters(net: EmotionNet) -> str:
    """Number of parameters, as ``395 K``."""
    return f"{sum(p.numel() for p in net.parameters()) / 1000:.0f} K"
