"""Samples of a wav file for `runtime.OnnxClassifier`: needs numpy alone.

This file stands alone: ``avser export --out DIR`` copies it beside the model.
"""

import struct
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, of the model
CANCELLED_DB = 15.0  # a mean so far under its channels has lost the signal
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_KINDS = {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}
_LEGAL = "PCM of 8, 16, 24 or 32 bits, or floats of 32 or 64 bits"
_CURE = "convert it, for instance to 16-bit wav"
_BLOCK_S, _EDGE_S = 8.0, 0.1  # of resampling: memory stays the same for an hour
_LARGEST = 2.0**32  # floats of 32-bit integers end at half of it; above are damaged bits
_MOST_BAD = 0.5  # share of bad samples from which nothing is left to work with
_LOWEST_RATE = 1_000  # Hz: half of it is the highest frequency that it holds
_UNKNOWN = (0, 2**32 - 1)  # lengths that recorders write before they know it
_TRANSITION = 0.05  # share of the band in which the low-pass falls from 1 to 0


@dataclass(frozen=True)
class WavAudio:
    """Samples of a file.

    Attributes:
        samples: ``[S]`` float32, one channel, 16 kHz, -1..1.
        notes: what was repaired in the file, one sentence each.
    """

    samples: NDArray[np.float32]
    notes: tuple[str, ...] = ()


def read_wav(path: str | Path) -> WavAudio:
    """Read a wav file of any rate, number of channels and usual sample format.

    Channels are averaged; where they cancel, the loudest is taken. Samples over full scale are
    scaled by their peak, samples that are no numbers or of absurd size become 0, and a file that
    is cut short is read to its end; `WavAudio.notes` names it.

    Raises:
        ValueError: the file can't be opened, is no wav, has another sample format or a rate that is
            too low for speech, or most of its samples are no numbers.
    """
    try:
        with open(path, "rb") as file:
            rate, channels, is_cut = _parse(file, str(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"Bad clip {str(path)!r}: {reason}; check the path.") from error
    finite = np.abs(channels) < _LARGEST  # False for NaN
    notes = ["The file is cut short; what is there was read."] if is_cut else []
    if not finite.all():
        bad = np.count_nonzero(~finite)
        if bad > finite.size * _MOST_BAD:
            raise ValueError(
                f"Bad clip {str(path)!r}: {bad} of {finite.size} samples are no numbers or of "
                "absurd size; export it again with samples in -1..1."
            )
        notes.append(f"{bad} samples are no numbers; they were set to 0.")
        channels = np.where(finite, channels, 0.0)
    peak = float(np.abs(channels).max(initial=0.0))
    if peak > 1:
        notes.append(f"The peak is {peak:.3g} of full scale; the samples were scaled by it.")
        channels = channels / peak
    mono, cancelled = to_mono(channels)
    if cancelled:
        notes.append("The channels cancel each other; the loudest was taken.")
    return WavAudio(resample(mono, rate).astype(np.float32), tuple(notes))


def to_mono(channels: NDArray[np.floating[Any]]) -> tuple[NDArray[np.floating[Any]], bool]:
    """Average ``[channels, S]`` to ``[S]``, or take the loudest channel where they cancel.

    Returns:
        The samples, and whether the channels cancel.
    """
    mean = channels.mean(axis=0)
    if not mean.size:
        return mean, False
    powers = np.square(channels - channels.mean(axis=1, keepdims=True)).sum(axis=1)
    power = float(np.square(mean - mean.mean()).sum())
    loudest = int(powers.argmax())
    if power < powers[loudest] * 10 ** (-CANCELLED_DB / 10):
        return channels[loudest], True
    return mean, False


def resample(samples: NDArray[np.floating[Any]], rate: int) -> NDArray[np.floating[Any]]:
    """Resample ``[S]`` from ``rate`` to 16 kHz: an ideal low-pass by Fourier transform, in blocks.

    The result has ``ceil(S * 16000 / rate)`` samples.
    """
    if rate == SAMPLE_RATE or not len(samples):
        return samples
    common = gcd(rate, SAMPLE_RATE)
    up, down = SAMPLE_RATE // common, rate // common
    edge = -(-round(_EDGE_S * rate) // down) * down  # whole periods of both rates
    block = -(-round(_BLOCK_S * rate) // down) * down
    count = -(-len(samples) // block)
    # around the samples lie zeros: without its mean, an offset would begin and end with a click
    mean = samples.mean()
    padded = np.pad(samples - mean, (edge, edge + count * block - len(samples)))
    parts = []
    for start in range(0, count * block, block):
        part = _resample_block(padded[start : start + block + 2 * edge], up=up, down=down)
        parts.append(part[edge * up // down : (edge + block) * up // down])
    resampled: NDArray[np.floating[Any]] = np.concatenate(parts) + mean
    return resampled[: -(-len(samples) * up // down)]


def _resample_block(
    samples: NDArray[np.floating[Any]], *, up: int, down: int
) -> NDArray[np.floating[Any]]:
    size = len(samples) * up // down
    bins = min(len(samples), size) // 2 + 1
    share = np.arange(bins) / (bins - 1)
    fall = np.clip((share - 1 + _TRANSITION) / _TRANSITION, 0, 1)
    spectrum = np.zeros(size // 2 + 1, dtype=np.complex128)
    spectrum[:bins] = np.fft.rfft(samples)[:bins] * (0.5 + 0.5 * np.cos(np.pi * fall))
    return np.fft.irfft(spectrum, n=size) * (up / down)


def _parse(file: BinaryIO, name: str) -> tuple[int, NDArray[np.floating[Any]], bool]:
    """Read rate and ``[channels, S]`` of a RIFF file, and whether it ends before it says.

    A recorder that was ended, or that wrote into a pipe, left no length: the file's end counts.
    """
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:12] != b"WAVE":
        raise ValueError(f"Bad clip {name!r}: it is no wav file; {_CURE}.")
    layout: tuple[int, int, int, int] | None = None  # kind, channels, rate, bits
    while len(chunk := file.read(8)) == 8:
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"fmt ":
            body = file.read(size + size % 2)
            if size < 16 or len(body) < size:
                break
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
            if kind == _EXTENSIBLE and size >= 26:
                kind = int.from_bytes(body[24:26], "little")
            layout = (kind, channels, rate, bits)
        elif chunk[:4] == b"data" and layout is not None:
            data = file.read() if size in _UNKNOWN else file.read(size)
            is_cut = len(data) < size and size not in _UNKNOWN
            return layout[2], _decoded(data, layout, name), is_cut
        else:
            file.seek(size + size % 2, 1)
    raise ValueError(f"Bad clip {name!r}: its header is damaged or it holds no samples; {_CURE}.")


def _decoded(
    data: bytes, layout: tuple[int, int, int, int], name: str
) -> NDArray[np.floating[Any]]:
    kind, channels, rate, bits = layout
    if (kind, bits) not in _KINDS or not channels or not rate:
        raise ValueError(
            f"Bad clip {name!r}: format {kind} of {bits} bits, {channels} channels, {rate} Hz; "
            f"legal is {_LEGAL}; {_CURE}."
        )
    if rate < _LOWEST_RATE:
        raise ValueError(
            f"Bad clip {name!r}: it states {rate} samples a second, and below {_LOWEST_RATE} there "
            "is no speech; export it again."
        )
    frames = len(data) // (channels * bits // 8)
    data = data[: frames * channels * bits // 8]  # a file that was cut short ends anywhere
    values: NDArray[np.floating[Any]]
    if kind == _FLOAT:
        values = np.frombuffer(data, f"<f{bits // 8}").astype(np.float64)
    elif bits == 8:  # the only unsigned format
        values = np.frombuffer(data, np.uint8) / 128.0 - 1.0
    elif bits == 24:
        packed = np.zeros((frames * channels, 4), np.uint8)
        packed[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        values = packed.view("<i4")[:, 0] / 2.0**31
    else:
        values = np.frombuffer(data, f"<i{bits // 8}") / 2.0 ** (bits - 1)
    return values.reshape(frames, channels).T
