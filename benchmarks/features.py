"""From file to features: our decoder, front end and encoder against the usual feature pipeline.

The usual pipeline is what most published code for this task does per file: read, resample to
16 kHz, then librosa's 40 MFCC, chroma, mel spectrogram and spectral contrast, each averaged over
time. Chroma and contrast share one transform, as they do there. It tracks no pitch; librosa's
chroma estimates tuning unless it is given, so a row without that estimate stands beside.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from avser.media.reader import read_audio
from avser.models.encoders.base import AudioEncoder
from avser.types import SAMPLE_RATE
from benchmarks.material import untrained, write_clips
from benchmarks.measure import Goal, Report, Row, in_turn, medians, threads

FULL = {"clips": 32, "repeats": 7}
QUICK = {"clips": 8, "repeats": 3}
BATCH = 16
FRONT = "front end alone"
USUAL = "librosa pipeline"
TUNED = "librosa pipeline, tuning given"

Vector = NDArray[np.floating[Any]]


def usual(path: Path, *, tuning: float | None = None) -> Vector:
    """Features of one file as usually made: ``[40 + 12 + 128 + 7]`` means over time."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return described(soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE), tuning=tuning)


def described(wave: Vector, *, tuning: float | None = None) -> Vector:
    """Features of sound ``[S]`` at 16 kHz; see `usual`."""
    import librosa

    spectrum = np.abs(librosa.stft(wave))
    parts = (
        librosa.feature.mfcc(y=wave, sr=SAMPLE_RATE, n_mfcc=40),
        librosa.feature.chroma_stft(S=spectrum, sr=SAMPLE_RATE, tuning=tuning),
        librosa.feature.melspectrogram(y=wave, sr=SAMPLE_RATE),
        librosa.feature.spectral_contrast(S=spectrum, sr=SAMPLE_RATE),
    )
    return np.concatenate([part.mean(axis=1) for part in parts])


@torch.inference_mode()
def ours(encoder: AudioEncoder, paths: Sequence[Path], *, batch: int) -> list[torch.Tensor]:
    """Encode files, so many in one pass; ``[B, T, D]`` each."""
    result = []
    for start in range(0, len(paths), batch):
        waves = [torch.from_numpy(read_audio(path)) for path in paths[start : start + batch]]
        lengths = torch.tensor([len(wave) for wave in waves])
        result.append(encoder(pad_sequence(waves, batch_first=True), lengths)[0])
    return result


@torch.inference_mode()
def planes(encoder: AudioEncoder, paths: Sequence[Path]) -> list[torch.Tensor]:
    """Spectrograms alone, ``[1, C, M, F]`` each: what is nearest to the usual features in kind."""
    result = []
    for path in paths:
        wave = torch.from_numpy(read_audio(path))
        raw, mask = encoder.raw_features(wave[None], torch.tensor([len(wave)]))
        result.append(encoder.normaliser(raw, mask))
    return result


def measure(*, clips: int, repeats: int, count: int = 1) -> Report:
    """Time both on the same files, with ``count`` threads each."""
    encoders = {
        "log-mel CRNN": untrained("audio_crnn").audio,
        "two-channel CRNN": untrained("audio_two_channel").audio,
    }
    with TemporaryDirectory() as folder, threads(count):
        paths = write_clips(Path(folder), clips)
        runs = {
            USUAL: lambda: [usual(p) for p in paths],
            TUNED: lambda: [usual(p, tuning=0.0) for p in paths],
        }
        for name, encoder in encoders.items():
            runs[f"{name.replace('CRNN', FRONT)}, one by one"] = lambda e=encoder: planes(e, paths)
            for size, how in ((1, "one by one"), (BATCH, f"in batches of {BATCH}")):
                runs[f"{name}, {how}"] = lambda e=encoder, s=size: ours(e, paths, batch=s)
        times = medians(in_turn(runs, repeats=repeats), per=clips / 1000)
    return Report(
        "features: file to features",
        f"{clips} wav files of 3 to 4 s at 48 kHz; {count} thread(s) each; median of {repeats}; "
        "ours: PyAV, front end, whole encoder; librosa pipeline: soundfile, soxr, MFCC, chroma, "
        "mel, contrast",
        rows(times),
    )


def rows(times: dict[str, float]) -> list[Row]:
    """Compare each of ours with the usual pipeline; ``times`` are ms a clip."""
    result = []
    for name, value in times.items():
        for alternative in () if name in (USUAL, TUNED) else (USUAL, TUNED):
            result.append(
                Row(
                    ours=name,
                    value=value,
                    unit="ms/clip",
                    alternative=alternative,
                    other=times[alternative],
                    goal=Goal("ratio", 10) if alternative == USUAL and FRONT not in name else None,
                )
            )
    return result
