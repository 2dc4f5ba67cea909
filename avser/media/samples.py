"""Channels, scale and bad values of sound: what is done to samples before anything else.

Two recordings are common and spoil a plain mean of the channels: one channel with its polarity
inverted, which cancels the other, and floats that are not in -1..1. Both are mended here, for
files and for arrays alike, and each mend is a warning in words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from av import AudioFrame, AudioResampler
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.types import SAMPLE_RATE

Samples = NDArray[np.float32]
NO_SAMPLES: Samples = np.zeros(0, np.float32)

FULL_SCALE = 1.0

_CANCELLED = 10**1.5  # power: 15 dB between the loudest channel and the mix
_MOST_SPEAKERS = 8  # more are an array of microphones, or of objects
_MEMORY = 2_048  # samples over which powers are averaged: it follows a change in half a second
_PIECE = 4_096  # samples of an array that are mixed at once
_TOLD_S = 0.25  # shorter cancellations change nothing that is predicted
_LARGEST = 2.0**32  # floats of 32-bit integers end at half of it; above are damaged bits
MOST_BAD = 0.5  # share of bad samples from which nothing is left to work with

# Share of a loudspeaker's channel in left and right of the down-mix: ITU-R BS.775, where centre and
# surrounds are 3 dB weaker and the subwoofer is left out; a rear centre is shared by both sides.
_WEAKER = 0.5**0.5
_DOWN_MIX = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (_WEAKER, _WEAKER),
    "BL": (_WEAKER, 0.0),
    "BR": (0.0, _WEAKER),
    "SL": (_WEAKER, 0.0),
    "SR": (0.0, _WEAKER),
    "FLC": (1.0, 0.0),
    "FRC": (0.0, 1.0),
    "BC": (0.5, 0.5),
    "TFL": (_WEAKER, 0.0),
    "TFR": (0.0, _WEAKER),
}
#: Loudspeakers of files that name none, by the number of channels; other numbers are microphones.
_UNNAMED = {
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}

CANCELLED = "its channels cancel each other, so the loudest one is used"


def scaled_warning(peak: float) -> str:
    """Words for sound that was scaled by its peak."""
    return f"its samples reach {peak:.4g} where 1 is full scale, so they are scaled by their peak"


def bad_warning(bad: int, total: int) -> str:
    """Words for samples that are no numbers."""
    return f"{bad} of {total} samples are NaN, infinite or out of all range and count as 0"


def zero_bad(samples: NDArray[np.floating]) -> tuple[NDArray[np.floating], int]:
    """Replace samples that are NaN, infinite or of absurd size by 0, and count them.

    An array without any is returned as it is, not copied.
    """
    fine = np.abs(samples) < _LARGEST  # False for NaN
    bad = fine.size - int(np.count_nonzero(fine))
    return (np.where(fine, samples, samples.dtype.type(0)), bad) if bad else (samples, 0)


def down_mix(speakers: Sequence[str]) -> NDArray[np.float32] | None:
    """Return the matrix ``[2, C]`` that mixes channels into left and right, or None.

    Each row's weights have a sum of 1 at most, so that nothing clips. Channels that are not those
    of loudspeakers are microphones, all alike: both rows are their mean.

    Args:
        speakers: name of each channel, such as "FL" or "LFE"; other names are unknown ones.

    Returns:
        The matrix; None for one channel, and for left and right, which are mixed as they are.
    """
    count = len(speakers)
    unnamed = not any(name in _DOWN_MIX for name in speakers)
    if tuple(speakers) in (("FC",), ("FL", "FR")) or (count <= 2 and unnamed):
        return None
    if count == 1:
        return np.ones((2, 1), np.float32)
    names = _UNNAMED.get(count, ()) if unnamed else speakers
    if not names or count > _MOST_SPEAKERS:
        return np.full((2, count), 1 / count, np.float32)
    matrix = np.array([_DOWN_MIX.get(name, (0.0, 0.0)) for name in names], np.float32).T
    return np.asarray(matrix / matrix.sum(axis=1).max(), np.float32)


class ChannelMixer:
    """Mixes channels into their mean; while they cancel each other, takes the loudest.

    They cancel each other where the mean lies more than 15 dB below the loudest channel, as powers
    of the last eighth of a second. Uncorrelated channels lose 3 dB, a silent one 6 dB.

    Attributes:
        replaced: samples for which the loudest channel was taken.
    """

    def __init__(self) -> None:
        self.replaced = 0
        self._powers: NDArray[np.float64] = np.zeros(0)  # of the mix, then of each channel

    def mix(self, samples: Samples) -> Samples:
        """Mix the next samples ``[C, n]`` into ``[n]``."""
        if len(samples) == 1 or not samples.shape[1]:
            return np.asarray(samples[0], np.float32)
        mixed = samples.mean(axis=0, dtype=np.float32)
        both = np.vstack([mixed[None], samples]).astype(np.float64)
        powers = np.einsum("cn,cn->c", both, both)
        if len(self._powers) == len(powers):
            powers += self._powers * np.exp(-samples.shape[1] / _MEMORY)
        self._powers = powers
        loudest = 1 + int(powers[1:].argmax())
        if powers[0] * _CANCELLED >= powers[loudest]:
            return np.asarray(mixed, np.float32)
        self.replaced += samples.shape[1]
        return np.asarray(samples[loudest - 1], np.float32)

    @property
    def warnings(self) -> tuple[str, ...]:
        """That the channels cancelled each other, where they did for long enough."""
        return (CANCELLED,) if self.replaced >= _TOLD_S * SAMPLE_RATE else ()


def to_16_bit(samples: Samples) -> NDArray[np.int16]:
    """Round samples in -1..1 to 16 bits, in which training stores them."""
    scaled: NDArray[np.int16] = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    return scaled


def from_16_bit(samples: NDArray[np.int16]) -> Samples:
    """Return stored samples as float32 in -1..1."""
    return samples.astype(np.float32) / np.float32(32768.0)


def rounded(samples: Samples) -> Samples:
    """Samples as training sees them: in -1..1, rounded to the 16 bits in which they are stored."""
    whole: Samples = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.float32)
    return whole / np.float32(32768.0)


def condition_samples(
    samples: NDArray[np.floating], *, sample_rate: int | None
) -> tuple[Samples, tuple[str, ...]]:
    """Turn samples of any rate and number of channels into ``[S]`` float32 at 16 kHz in -1..1.

    Args:
        samples: ``[S]`` or ``[channels, S]`` floats.
        sample_rate: their rate in Hz.

    Returns:
        The samples, and what had to be mended, in words: bad values, scale, channels.

    Raises:
        ConfigError: the rate is missing, the type or shape is another, or most samples are bad.
    """
    if sample_rate is None or not sample_rate >= 1:
        raise ConfigError("Bad samples: their rate is not given; pass sample_rate in Hz.")
    channels = _channels(samples)
    warnings: list[str] = []
    cleaned, bad = zero_bad(channels)
    if bad:
        if bad > MOST_BAD * channels.size:
            raise ConfigError(
                f"Bad samples: {bad} of {channels.size} are NaN, infinite or out of all range; "
                "expected finite floats in -1..1."
            )
        warnings.append(bad_warning(bad, channels.size))
    peak = float(np.abs(cleaned).max(initial=0.0))
    if peak > FULL_SCALE:
        cleaned = cleaned / peak
        warnings.append(scaled_warning(peak))
    resampled = _resample(np.asarray(cleaned, np.float32), sample_rate)
    mixer = ChannelMixer()
    pieces = [
        mixer.mix(resampled[:, start : start + _PIECE])
        for start in range(0, resampled.shape[1], _PIECE)
    ]
    mixed = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    return mixed, (*warnings, *mixer.warnings)


def _channels(samples: NDArray[np.floating]) -> NDArray[np.floating]:
    """Samples as ``[C, S]`` floats, or an error that names the type or the shape."""
    if not np.issubdtype(samples.dtype, np.floating):
        raise ConfigError(
            f"Bad samples of type {samples.dtype}: expected floats in -1..1; divide 16-bit "
            "samples by 32768."
        )
    if samples.ndim == 2 and len(samples) > samples.shape[1]:
        raise ConfigError(
            f"Bad samples of shape {samples.shape}: expected [channels, S]; transpose them."
        )
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not len(samples)):
        raise ConfigError(f"Bad samples of shape {samples.shape}: expected [S] or [channels, S].")
    wide = samples if samples.dtype.itemsize >= 4 else samples.astype(np.float32)
    return np.atleast_2d(wide)


def _resample(channels: Samples, sample_rate: float) -> Samples:
    """Resample ``[C, S]`` to 16 kHz as sound of files is, by FFmpeg."""
    if sample_rate == SAMPLE_RATE or not channels.shape[1]:
        return channels
    rows = []
    for channel in channels:
        resampler = AudioResampler("fltp", "mono", SAMPLE_RATE)
        frame = AudioFrame.from_ndarray(channel[None], format="fltp", layout="mono")
        frame.sample_rate = round(sample_rate)
        resampled = [*resampler.resample(frame), *resampler.resample(None)]
        rows.append(np.concatenate([NO_SAMPLES, *(piece.to_ndarray()[0] for piece in resampled)]))
    return np.stack(rows)
