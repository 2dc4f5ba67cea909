"""Tiny synthetic media: voice-like sounds and cartoon faces that depend on emotion and speaker.

They stand for recordings wherever a test needs real files: a small model learns the emotions
from them within seconds, and no corpus has to be there. All of it is deterministic.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any
from zlib import crc32

import av
import numpy as np
from numpy.typing import NDArray

from avser.emotions import canonical

# emotion: pitch ratio, loudness, brightness of the voice (0-1), syllables per second, and of the
# face: mouth curvature (-1 frown to 1 smile), mouth opening (0-1), height of the brows (-1 to 1)
_STYLE = {
    "neutral": (1.00, 0.20, 0.30, 3.5, 0.0, 0.1, 0.0),
    "calm": (0.90, 0.12, 0.15, 2.5, 0.3, 0.0, 0.1),
    "happy": (1.45, 0.35, 0.60, 4.5, 1.0, 0.6, 0.4),
    "sad": (0.80, 0.08, 0.10, 2.0, -0.8, 0.0, -0.2),
    "angry": (1.30, 0.60, 0.95, 5.0, -0.6, 0.5, -1.0),
    "fearful": (1.75, 0.25, 0.45, 6.0, -0.3, 0.7, 0.8),
    "disgust": (0.85, 0.30, 0.80, 2.2, -1.0, 0.2, -0.6),
    "surprised": (1.95, 0.45, 0.70, 3.0, 0.2, 1.0, 1.0),
    "bored": (0.75, 0.15, 0.25, 1.8, -0.2, 0.0, -0.4),
    "excited": (1.60, 0.55, 0.75, 5.5, 0.9, 0.9, 0.6),
    "frustrated": (1.15, 0.45, 0.85, 4.0, -0.5, 0.3, -0.8),
    "contempt": (0.95, 0.22, 0.55, 2.8, -0.4, 0.0, 0.3),
}
_CODECS = {  # suffix: picture, its pixel format, sound
    ".mp4": ("libx264", "yuv420p", "aac"),
    ".mkv": ("libx264", "yuv420p", "aac"),
    ".mov": ("libx264", "yuv420p", "aac"),
    ".avi": ("mpeg4", "yuv420p", "pcm_s16le"),
    ".flv": ("flv", "yuv420p", "aac"),
}
_PEAK = 32_767  # of 16-bit samples
_SYNTHESIS_HZ = 16_000  # harmonics end at 4 kHz, so higher rates are interpolated
_BLOCK = 1_024  # samples per audio frame: what the AAC encoder takes

Sound = NDArray[np.float32]
Picture = NDArray[np.uint8]


def seed_of(*parts: object) -> int:
    """Return one number for some words, the same on every machine and in every run."""
    return crc32("/".join(map(str, parts)).encode())


def voice(
    emotion: str,
    *,
    speaker: str = "",
    seconds: float = 0.8,
    sample_rate: int = 16_000,
    seed: int = 0,
) -> Sound:
    """Make harmonics that sound a little like speech, [S] in -1..1.

    The emotion sets pitch, loudness, brightness and pace; the speaker sets base pitch and
    formants; the seed varies all of them slightly, as takes vary.
    """
    ratio, loudness, brightness, pace = _STYLE[canonical(emotion)][:4]
    who = np.random.default_rng(seed_of("speaker", speaker))
    take = np.random.default_rng(seed_of("take", emotion, speaker, seed))
    base_hz = 110.0 * 2.0 ** who.uniform(0.0, 0.9)
    formants_hz = np.array([600.0, 1_400.0, 2_700.0]) * who.uniform(0.9, 1.15)
    rate = min(sample_rate, _SYNTHESIS_HZ)
    t = np.arange(round(seconds * rate)) / rate
    glide = 1.0 + 0.06 * np.sin(2 * np.pi * (pace / 2 * t + take.uniform()))
    f0_hz = base_hz * ratio * take.uniform(0.96, 1.04) * glide
    phase = 2 * np.pi * np.cumsum(f0_hz) / rate
    wave = np.zeros_like(t)
    for k in range(1, int(min(4_000.0, rate / 2) / f0_hz.max()) + 1):
        hz = k * float(f0_hz.mean())
        resonance = np.exp(-(((hz - formants_hz) / 350.0) ** 2)).sum()
        wave += np.sin(k * phase) * (0.15 + resonance) * k ** (brightness - 1.5)
    syllables = 0.25 + 0.75 * np.sin(np.pi * (pace * t + take.uniform())) ** 2
    fade = np.minimum(1.0, np.minimum(t, t[::-1]) / 0.03)
    wave *= syllables * fade
    wave *= loudness * take.uniform(0.9, 1.1) / max(float(np.abs(wave).max()), 1e-9)
    wave += take.normal(0.0, 0.002, wave.shape)
    if rate != sample_rate:
        wave = np.interp(np.arange(round(seconds * sample_rate)) / sample_rate, t, wave)
    return np.clip(wave, -1.0, 1.0).astype(np.float32)


def face_frames(
    emotion: str, *, speaker: str = "", count: int = 6, size: int = 64, seed: int = 0
) -> Picture:
    """Draw a cartoon face with moving lips, [N, H, W, 3] RGB.

    The emotion shapes mouth and brows; the speaker sets the skin; the seed shifts the head.
    """
    curve, opening, brows = _STYLE[canonical(emotion)][4:]
    who = np.random.default_rng(seed_of("face", speaker))
    take = np.random.default_rng(seed_of("pose", emotion, speaker, seed))
    skin = np.array([225, 180, 150]) * who.uniform(0.55, 1.0)
    dx, dy = take.uniform(-0.06, 0.06, 2)
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = axis[None, :] - dx, axis[:, None] - dy
    frames = np.full((count, size, size, 3), 70.0)
    for n, frame in enumerate(frames):
        lips = 0.04 + 0.16 * opening * (0.6 + 0.4 * np.sin(1.3 * n + seed))
        frame[(x / 0.62) ** 2 + (y / 0.82) ** 2 < 1] = skin
        for side in (-0.25, 0.25):
            frame[((x - side) / 0.1) ** 2 + ((y + 0.2) / 0.07) ** 2 < 1] = 25
            brow = -0.42 - 0.1 * brows + 0.25 * max(0.0, -brows) * (np.abs(side) - np.abs(x))
            frame[(np.abs(x - side) < 0.15) & (np.abs(y - brow) < 0.035)] = 40
        mouth = 0.42 - 0.18 * curve * ((x / 0.3) ** 2 - 0.5)
        frame[(np.abs(x) < 0.3) & (np.abs(y - mouth) < lips)] = (150, 35, 45)
    return frames.clip(0, 255).astype(np.uint8)


def write_wav(path: Path, samples: Sound, *, sample_rate: int = 16_000) -> Path:
    """Write 16-bit WAV from samples [S], or [channels, S]; folders are made."""
    return _write_sound(path, samples, sample_rate=sample_rate, codec="pcm_s16le", container="wav")


def write_flac(path: Path, samples: Sound, *, sample_rate: int = 16_000) -> Path:
    """Write 16-bit FLAC from samples [S], or [channels, S]; folders are made."""
    return _write_sound(path, samples, sample_rate=sample_rate, codec="flac", container="flac")


def write_video(
    path: Path,
    frames: Picture,
    *,
    samples: Sound | None = None,
    fps: float = 10.0,
    sample_rate: int = 16_000,
) -> Path:
    """Write pictures [N, H, W, 3], with sound if given; the suffix chooses the codecs.

    H.264 and AAC for mp4, mkv and mov, MPEG-4 and PCM for avi, Flash video and AAC for flv.
    """
    codec, pixels, sound_codec = _CODECS[path.suffix.lower()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        picture: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1_001))
        picture.height, picture.width = frames.shape[1:3]
        picture.pix_fmt = pixels
        picture.codec_context.thread_count = 1  # threads cost more than such frames
        if codec == "libx264":
            picture.options = {"preset": "ultrafast"}
        sound: Any = None
        if samples is not None:
            layout = "mono" if np.ndim(samples) == 1 else "stereo"
            sound = container.add_stream(sound_codec, rate=sample_rate, layout=layout)
            if sound_codec == "aac":
                sound.options = {"aac_coder": "fast"}
        for image in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(picture.encode(None))
        if samples is not None:
            _encode(container, sound, samples, sample_rate)
    return path


def _write_sound(
    path: Path, samples: Sound, *, sample_rate: int, codec: str, container: str
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = "mono" if np.ndim(samples) == 1 else "stereo"
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=sample_rate, layout=layout)
        _encode(output, stream, samples, sample_rate)
    return path


def _encode(container: Any, stream: Any, samples: Sound, sample_rate: int) -> None:  # noqa: ANN401
    """Encode samples as interleaved 16-bit frames; the encoder converts what it needs to."""
    channels = np.atleast_2d(samples)
    packed = np.round(channels.T.clip(-1, 1) * _PEAK).astype(np.int16)  # [S, channels]
    layout = "mono" if len(channels) == 1 else "stereo"
    for start in range(0, len(packed), _BLOCK):
        block = np.ascontiguousarray(packed[start : start + _BLOCK].reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout=layout)
        frame.sample_rate = sample_rate
        frame.pts = start
        frame.time_base = Fraction(1, sample_rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
