"""Media that the tests of decoding make, and what they look for in it."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from avser.media.reader import MediaBlock
from avser.types import SAMPLE_RATE

AAC_TAIL = 1_024  # an AAC stream is a whole number of such frames
SAMPLE = Path(__file__).parents[1] / "examples" / "sample.mp4"


def tone(seconds: float, rate: int, *, hz: float = 440.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype("f4")


def write_wav(path: Path, samples: NDArray[np.float32], rate: int = SAMPLE_RATE) -> Path:
    """`samples` is [n] or [n, channels]."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    return path


def write_clip(
    path: Path,
    *,
    seconds: float = 4.0,
    sound: bool = True,
    picture: bool = True,
    delay_s: float = 0.0,
    rotation: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A red corner on grey that rises by 2 a frame (25 fps), and a tone of 440 Hz."""
    with av.open(str(path), "w", options=options or {}) as file:
        if picture:
            video = file.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "8"})
            video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
            if rotation is not None:
                video.set_display_rotation(rotation)
        if sound:
            audio = file.add_stream("aac", rate=48_000, layout="stereo")
        samples = np.stack([tone(seconds, 48_000)] * 2)
        for index in range(round(seconds * 25) if picture else 0):
            image = np.full((120, 160, 3), index * 2 % 200, np.uint8)
            image[:60, :80] = (255, 0, 0)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            file.mux(video.encode(frame))
        if picture:
            file.mux(video.encode())
        for start in range(0, samples.shape[1] if sound else 0, 1_024):
            piece = np.ascontiguousarray(samples[:, start : start + 1_024])
            chunk = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            chunk.sample_rate, chunk.time_base = 48_000, Fraction(1, 48_000)
            chunk.pts = start + round(delay_s * 48_000)
            file.mux(audio.encode(chunk))
        if sound:
            file.mux(audio.encode())
    return path


def joined(blocks: list[MediaBlock]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *(block.samples for block in blocks)])


def pitch(samples: NDArray[np.float32]) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * SAMPLE_RATE / len(samples))


def step_of(image: NDArray[np.uint8]) -> float:
    """Which frame of `write_clip` it is, by the grey of its lower part."""
    return float(image[90:].mean()) / 2


# sound
