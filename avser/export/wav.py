"""Samples of a wav file for `runtime.OnnxClassifier`: needs numpy alone.

This file stands alone: ``avser export --out DIR`` copies it beside the model.
"""

import struct
from dataclasses import dataclass
from math import ceil, gcd
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, of the model
CANCELLED_DB = 15.0  # a mean so far under its channels has lost the signal
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_KINDS = {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}
_LEGAL = "PCM of 8, 16, 24 or 32 bits, or floats of 32 or 64 bits"
_CURE = "convert it, for instance to 16-bit wav"
_ZEROS, _CUTOFF, _BETA = 32, 0.97, 9.0  # of the filter: zero crossings, band, Kaiser window
_LARGEST = 2.0**32  # floats of 32-bit integers end at half of it; above are damaged bits
_MOST_BAD = 0.5  # share of bad samples from which nothing is left to work with
_LOWEST_RATE = 1_000  # Hz: half of it is the highest frequency that it holds
_UNKNOWN = (0, 2**32 - 1)  # lengths that recorders write before they know it
_PIECE = 1_024  # samples over which it is decided whether channels cancel
_MEMORY = 2_048  # samples over which powers are averaged for it
_MOST_SPEAKERS = 8  # more are an array of microphones, or of objects
_PLAIN = (0b11, 0b100)  # left and right; one in the middle
_UNNAMED = {6: 0b111111, 8: 0b11000111111}  # 5.1 and 7.1; other numbers are microphones

# Shares in left and right of the loudspeakers, by the bit of the file: FL FR FC LFE BL BR FLC FRC
# BC SL SR TC TFL TFC TFR TBL TBC TBR
_W = 0.5**0.5
_SHARES = (
    (1, 0), (0, 1), (_W, _W), (0, 0), (_W, 0), (0, _W), (1, 0), (0, 1), (0.5, 0.5),
    (_W, 0), (0, _W), (0, 0), (_W, 0), (0, 0), (0, _W), (0, 0), (0, 0), (0, 0),
)  # fmt: skip


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

    Left and right are averaged; while they cancel, the louder one is taken. Channels of more
    loudspeakers are mixed into left and right first (ITU-R BS.775: centre and surrounds 3 dB
    weaker, no subwoofer); without loudspeakers all are averaged. Samples over full scale are scaled
    by their peak, samples that are no numbers or of absurd size become 0, and a file that is cut
    short is read to its end; `WavAudio.notes` names it. All of this is as in avser, so that both
    give the same samples within 1e-4 of full scale.

    Raises:
        ValueError: the file can't be opened, is no wav, has another sample format or a rate that is
            too low for speech, or most of its samples are no numbers.
    """
    try:
        with open(path, "rb") as file:
            rate, channels, speakers, is_cut = _parse(file, str(path))
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
    matrix = down_mix(len(channels), speakers)
    sides = channels if matrix is None else matrix @ channels
    mono, cancelled = to_mono(np.stack([resample(side, rate) for side in sides]))
    if cancelled:
        notes.append("The channels cancel each other; the loudest was taken.")
    return WavAudio(mono.astype(np.float32), tuple(notes))


def down_mix(count: int, speakers: int) -> NDArray[np.float64] | None:
    """Return the matrix ``[2, C]`` that mixes channels into left and right; None for those alone.

    Args:
        count: of the channels.
        speakers: a bit for each loudspeaker, as in the file; 0 where it names none.
    """
    if speakers.bit_count() != count:  # a header that contradicts itself names none
        speakers = 0
    if count <= 2 and speakers in (0, *_PLAIN):
        return None
    speakers = speakers or _UNNAMED.get(count, 0)
    shares = [_SHARES[bit] for bit in range(len(_SHARES)) if speakers >> bit & 1]
    matrix = np.array(shares).T
    if count == 1 or count > _MOST_SPEAKERS or len(shares) != count or not matrix.any():
        return np.full((2, count), 1 / count)
    return np.asarray(matrix / matrix.sum(axis=1).max(), np.float64)


def to_mono(channels: NDArray[np.floating[Any]]) -> tuple[NDArray[np.floating[Any]], bool]:
    """Average ``[channels, S]`` at 16 kHz to ``[S]``; while they cancel, take the loudest channel.

    Returns:
        The samples, and whether the channels cancel for a quarter of a second or more.
    """
    mono = channels.mean(axis=0)
    powers = np.zeros(1 + len(channels))  # of the mix, then of each channel
    cancelled = 0
    for start in range(0, channels.shape[1], _PIECE):
        piece = channels[:, start : start + _PIECE]
        both = np.vstack([mono[None, start : start + _PIECE], piece])
        powers = np.square(both).sum(axis=1) + powers * np.exp(-piece.shape[1] / _MEMORY)
        loudest = int(powers[1:].argmax())
        if powers[0] < powers[1 + loudest] * 10 ** (-CANCELLED_DB / 10):
            mono[start : start + _PIECE] = piece[loudest]
            cancelled += piece.shape[1]
    return mono, cancelled >= SAMPLE_RATE // 4


def resample(samples: NDArray[np.floating[Any]], rate: int) -> NDArray[np.floating[Any]]:
    """Resample ``[S]`` from ``rate`` to 16 kHz by a windowed sinc, the default filter of FFmpeg.

    The samples are mirrored at their ends. The result has ``ceil(S * 16000 / rate)`` samples.
    """
    if rate == SAMPLE_RATE or not len(samples):
        return samples
    common = gcd(rate, SAMPLE_RATE)
    up, down = SAMPLE_RATE // common, rate // common
    band = min(1.0, _CUTOFF * SAMPLE_RATE / rate)  # of the samples' own
    taps = ceil(_ZEROS / band)
    taps += taps % 2
    before = (taps - 1) // 2
    padded = np.pad(np.pad(samples, (before, 0), "reflect"), (0, taps), "symmetric")
    windows = sliding_window_view(padded, taps)
    resampled = np.zeros(-(-len(samples) * up // down))
    phases = min(up, len(resampled))
    starts, shifts = np.divmod(np.arange(phases) * down, up)
    times = np.arange(taps) - before - shifts[:, None] / up
    kaiser = np.i0(_BETA * np.sqrt(np.clip(1 - (2 * times / taps) ** 2, 0, None)))
    weights = np.sinc(times * band) * kaiser
    weights /= weights.sum(axis=1, keepdims=True)
    for phase, start in enumerate(starts):
        part = resampled[phase::up]
        part[:] = windows[start::down][: len(part)] @ weights[phase]
    return resampled


def _parse(file: BinaryIO, name: str) -> tuple[int, NDArray[np.floating[Any]], int, bool]:
    """Read a RIFF file: rate, ``[channels, S]``, loudspeakers, and whether it ends early.

    A recorder that was ended, or that wrote into a pipe, left no length: the file's end counts.
    """
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:12] != b"WAVE":
        raise ValueError(f"Bad clip {name!r}: it is no wav file; {_CURE}.")
    layout: tuple[int, int, int, int] | None = None  # kind, channels, rate, bits
    speakers = 0
    while len(chunk := file.read(8)) == 8:
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"fmt ":
            body = file.read(size + size % 2)
            if size < 16 or len(body) < size:
                break
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
            if kind == _EXTENSIBLE and size >= 26:
                speakers = int.from_bytes(body[20:24], "little")
                kind = int.from_bytes(body[24:26], "little")
            layout = (kind, channels, rate, bits)
        elif chunk[:4] == b"data" and layout is not None:
            data = file.read() if size in _UNKNOWN else file.read(size)
            is_cut = len(data) < size and size not in _UNKNOWN
            return layout[2], _decoded(data, layout, name), speakers, is_cut
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
