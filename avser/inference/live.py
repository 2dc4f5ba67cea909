"""Predictions on live sound: its sources, and a prediction a step.

Blocks of a source are short (32 ms) and carry the time at which their last sample arrived, so that
the delay from the end of a step to its label is measured.
"""

import queue
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from avser.errors import MediaError, SignalError
from avser.export.runtime import SAMPLE_RATE, OnnxStep, Samples
from avser.extras import require
from avser.inference.live_window import LiveStep

BLOCK = 512  # samples; 32 ms
_WAITING_S = 10  # of sound that may wait for the model; more is dropped, so memory is bounded


@dataclass(frozen=True)
class AudioBlock:
    """Samples ``[n]`` of a source, and when the last of them arrived (``time.monotonic``)."""

    samples: Samples
    at: float


@dataclass(frozen=True)
class LivePrediction:
    """Prediction of a step, and its delay after the end of the step."""

    step: OnnxStep | LiveStep
    latency_ms: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of one line."""
        if isinstance(self.step, OnnxStep):
            row = asdict(self.step)
            row["start_s"], row["end_s"] = round(self.step.start_s, 3), round(self.step.end_s, 3)
        else:
            row = self.step.to_dict()
        return row | {"latency_ms": round(self.latency_ms, 1)}


class SampleStream(Protocol):
    """Stream that predicts steps: `OnnxStream`, or `StreamingPredictor`."""

    @property
    def probabilities(self) -> Mapping[str, float] | None:
        """Emotion to probability at the last step."""

    def push(self, samples: Samples) -> list[OnnxStep]:
        """Take samples; return the steps that they completed."""

    def finish(self) -> list[OnnxStep]:
        """Return the partial step that is left, if any."""


def listen(stream: SampleStream, source: Iterable[AudioBlock]) -> Iterator[LivePrediction]:
    """Predict each step of a source as soon as it is complete."""
    last = time.monotonic()
    for block in source:
        last = block.at
        for step in stream.push(block.samples):
            yield LivePrediction(step, 1000 * (time.monotonic() - block.at))
    for step in stream.finish():
        yield LivePrediction(step, 1000 * (time.monotonic() - last))


# -- sources -------------------------------------------------------------------------------------


def from_file(path: str | Path, *, speed: float = 1.0) -> Iterator[AudioBlock]:
    """Read a media file's sound in real time: each block comes when its last sample is due.

    Args:
        path: of the file.
        speed: 2 is twice as fast; 0 does not wait at all.

    Raises:
        MediaError: the file can't be opened.
        SignalError: it has no sound.
    """
    from avser.media.reader import open_media, scaled

    with open_media(path) as reader:
        if not reader.has_audio:
            raise SignalError(f"Bad input {path}: it has no sound; give a file that has.")
        begun, count = time.monotonic(), 0
        for block in reader:
            for start in range(0, len(block.samples), BLOCK):
                piece = scaled(block.samples[start : start + BLOCK], reader.gain)
                count += len(piece)
                due = begun + count / SAMPLE_RATE / speed if speed else time.monotonic()
                time.sleep(max(0.0, due - time.monotonic()))
                yield AudioBlock(piece, due)


def from_pcm(file: IO[bytes]) -> Iterator[AudioBlock]:
    """Read raw samples of 16 bits (signed, little-endian, one channel, 16 kHz) as they come."""
    rest = b""
    read = getattr(file, "read1", file.read)  # available bytes, without waiting for more
    while chunk := read(2 * BLOCK):
        rest += chunk
        whole = len(rest) // 2 * 2
        samples = np.frombuffer(rest[:whole], dtype="<i2").astype(np.float32) / np.float32(32768)
        rest = rest[whole:]
        yield AudioBlock(samples, time.monotonic())


def from_microphone(device: str | int | None = None) -> Iterator[AudioBlock]:
    """Record from a microphone until interrupted.

    Args:
        device: name, part of a name, or number; None is the system's default.

    Raises:
        ConfigError: the extra ``mic`` is not installed.
        MediaError: there is no such microphone, or it can't record at 16 kHz.
    """
    require("mic", "sounddevice")
    try:
        import sounddevice
    except OSError as error:  # the wheel is there, and PortAudio is not
        raise MediaError(
            "Bad microphone: the system's PortAudio library is missing; install it (Debian: "
            "apt install libportaudio2)."
        ) from error
    waiting: queue.Queue[AudioBlock] = queue.Queue(maxsize=_WAITING_S * SAMPLE_RATE // BLOCK)

    def take(block: NDArray[np.float32], frames: int, clock: object, status: object) -> None:
        try:
            waiting.put_nowait(AudioBlock(block[:, 0].copy(), time.monotonic()))
        except queue.Full:
            print("avser listen: too slow for this machine; sound is lost.", file=sys.stderr)

    try:
        with sounddevice.InputStream(
            samplerate=SAMPLE_RATE,
            channels=1,
            dtype="float32",
            blocksize=BLOCK,
            device=device,
            callback=take,
        ):
            while True:
                yield waiting.get()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise MediaError(
            f"Bad microphone {device if device is not None else 'default'!r}: "
            f"{str(error).splitlines()[0]}; python -m sounddevice lists the devices."
        ) from error


# -- lines for a terminal --------------------------------------------------------------------------

_LEVELS = " ▁▂▃▄▅▆▇█"
_FLOOR_DB = 60.0  # of the meter


def format_step(prediction: LivePrediction, *, width: int = 140, ascii_only: bool = False) -> str:
    """One line: time, label, streams (of voice and face), bars, level and latency.

    Args:
        prediction: of a step.
        width: characters at most.
        ascii_only: whether bars are made of # and digits (tenths).
    """
    step = prediction.step
    parts = [f"{step.end_s:8.1f} s"]
    if step.probabilities is None or step.label is None:
        parts.append(f"{'(silence)' if step.silent else '(no label yet)':<15}")
    else:
        label = f"({step.label})" if step.silent else step.label
        parts.append(f"{label:<10} {100 * step.probabilities[step.label]:5.1f} %")
        mark = _tenths if ascii_only else _eighths
        bars = (f"{name[:4]} {mark(p)}" for name, p in step.probabilities.items())
        parts.append("  ".join(bars))
    if not isinstance(step, OnnxStep):
        used = {"audio": "voice", "video": "face"}
        parts.insert(2, f"{'+'.join(used[name] for name in step.modalities):<10}")
    full = max(0.0, min(1.0, 1 + step.level_dbfs / _FLOOR_DB))
    meter = ("#" if ascii_only else "█") * round(10 * full)
    left, right = "||" if ascii_only else "▕▏"
    parts.append(f"{left}{meter:<10}{right}{max(step.level_dbfs, -99):4.0f} dBFS")
    parts.append(f"{prediction.latency_ms:4.0f} ms")
    return "  ".join(parts)[:width]


def _tenths(share: float) -> str:
    return str(min(9, int(10 * share)))


def _eighths(share: float) -> str:
    return _LEVELS[min(8, round(8 * share))]
