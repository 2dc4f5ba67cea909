"""Sound and picture of an annotated copy lie where they lie in the clip, whatever its stamps."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avser.types import Prediction
from avser.visualization.annotate import annotate

RATE = 16_000
FRAME_S = 0.1  # of clips at 10 fps
ONE_FRAME_S = FRAME_S + 0.005  # containers round
NOTHING = Prediction(
    label=None,
    probabilities=None,
    modalities=(),
    reason=None,
    duration_s=3.0,
    timeline=(),
    model="none",
)


def write_clip(
    path: Path,
    *,
    picture_from_s: float = 0.0,
    sound_from_s: float | None = 0.0,
    switch_s: float = 1.5,
    beep_s: float = 1.2,
    seconds: float = 3.0,
    frames: int | None = None,
    size: tuple[int, int] = (160, 120),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    ratio: Fraction = Fraction(1),
) -> Path:
    """Write a picture that turns from dark to bright, and silence with a beep.

    Both times are of the container's clock; the streams begin at theirs and end at ``seconds``.
    """
    form = {".ts": "mpegts", ".mkv": "matroska"}.get(path.suffix, "mp4")
    with av.open(str(path), "w", format=form) as made:
        picture: Any = made.add_stream(codec, rate=10)
        picture.width, picture.height = size
        picture.pix_fmt = pixels
        picture.codec_context.sample_aspect_ratio = ratio
        sound: Any = None
        if sound_from_s is not None:
            sound = made.add_stream("aac", rate=RATE, layout="mono")
        packets: list[Any] = []
        count = round((seconds - picture_from_s) / FRAME_S) if frames is None else frames
        for i in range(count):
            time_s = picture_from_s + i * FRAME_S
            grey = 220 if time_s >= switch_s - 1e-6 else 30
            image = np.full((size[1], size[0], 3), grey, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1_000), Fraction(1, 1_000)
            packets += picture.encode(frame)
        packets += picture.encode(None)
        if sound_from_s is not None:
            time = sound_from_s + np.arange(round((seconds - sound_from_s) * RATE)) / RATE
            wave = 0.5 * np.sin(2 * np.pi * 1_000 * time) * (abs(time - beep_s - 0.1) < 0.1)
            for start in range(0, len(wave), 1_024):
                block = wave[None, start : start + 1_024].astype(np.float32)
                audio = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
                audio.sample_rate = RATE
                audio.pts = round(sound_from_s * RATE) + start
                audio.time_base = Fraction(1, RATE)
                packets += sound.encode(audio)
            packets += sound.encode(None)
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            made.mux(packet)
    return path


@dataclass(frozen=True)
class Decoded:
    """A copy as a player decodes it: seconds, brightness in the middle, and samples."""

    times: list[float]
    brightness: list[float]
    sound_times: np.ndarray
    samples: np.ndarray
    size: tuple[int, int]

    @property
    def switch_s(self) -> float:
        """When the picture turns bright."""
        return next(t for t, b in zip(self.times, self.brightness, strict=True) if b > 130)

    @property
    def beep_s(self) -> float:
        """When the beep begins."""
        return float(self.sound_times[np.abs(self.samples) > 0.1][0])


def decode(path: Path) -> Decoded:
    times, brightness, pieces, starts = [], [], [], []
    with av.open(str(path)) as made:
        for frame in made.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            middle = image[image.shape[0] // 2 - 4 :, image.shape[1] // 2 :][:8, :8]
            times.append(float(frame.time))
            brightness.append(float(middle.mean()))
        size = (frame.width, frame.height)
    with av.open(str(path)) as made:
        for audio in made.decode(audio=0) if made.streams.audio else ():
            wave = audio.to_ndarray()[0]
            pieces.append(wave)
            starts.append(float(audio.time) + np.arange(len(wave)) / audio.sample_rate)
    empty = [np.zeros(0)]
    assert times == sorted(set(times)), "stamps go back"
    return Decoded(
        times,
        brightness,
        np.concatenate(starts or empty),
        np.concatenate(pieces or empty),
        size,
    )


@pytest.mark.parametrize(
    ("suffix", "picture_from_s", "sound_from_s"),
    [
        (".mp4", 0.0, 0.0),
        (".mp4", 0.1, 0.0),
        (".mkv", 0.2, 0.0),
        (".mp4", 1.0, 0.0),
        (".mp4", 0.0, 0.3),
        (".mkv", 5.0, 5.0),
        (".ts", 5.0, 5.2),
    ],
)
def test_streams_that_begin_apart_or_late(
    suffix: str, picture_from_s: float, sound_from_s: float, tmp_path: Path
) -> None:
    first_s = min(picture_from_s, sound_from_s)
    source = write_clip(
        tmp_path / f"clip{suffix}",
        picture_from_s=picture_from_s,
        sound_from_s=sound_from_s,
        switch_s=first_s + 1.5,
        beep_s=first_s + 1.2,
        seconds=first_s + 3.0,
    )
    copy = decode(annotate(NOTHING, source, tmp_path / "copy.mp4"))
    assert copy.times[0] == 0 and copy.times[-1] == pytest.approx(3.0 - FRAME_S, abs=ONE_FRAME_S)
    assert copy.switch_s == pytest.approx(1.5, abs=ONE_FRAME_S)
    assert copy.beep_s == pytest.approx(1.2, abs=0.025)
    before = [b for t, b in zip(copy.times, copy.brightness, strict=True) if t < 1.3]
    assert max(before) < 60


@pytest.mark.parametrize("frames", [1, 3])
def test_a_picture_that_stays_is_shown_to_the_end_of_the_sound(frames: int, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", frames=frames, switch_s=0.0, beep_s=2.0)
    copy = decode(annotate(NOTHING, source, tmp_path / "copy.mp4"))
    assert copy.times[-1] == pytest.approx(2.9, abs=ONE_FRAME_S)
    assert min(copy.brightness) > 200
    assert copy.beep_s == pytest.approx(2.0, abs=0.025)


def test_a_picture_without_sound(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", sound_from_s=None)
    copy = decode(annotate(NOTHING, source, tmp_path / "copy.mp4"))
    assert copy.switch_s == pytest.approx(1.5, abs=ONE_FRAME_S) and not copy.samples.size
    one = write_clip(tmp_path / "one.mp4", sound_from_s=None, frames=1)
    assert len(decode(annotate(NOTHING, one, tmp_path / "copy.mp4")).times) >= 1


def test_a_clock_that_goes_back(tmp_path: Path) -> None:
    """The sound of such a file begins .064 s early, with what the encoder puts before it."""
    part = write_clip(tmp_path / "part.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(part + part)
    copy = decode(annotate(NOTHING, tmp_path / "joined.ts", tmp_path / "copy.mp4"))
    assert copy.switch_s == pytest.approx(1.564, abs=ONE_FRAME_S)
    assert copy.beep_s == pytest.approx(1.264, abs=0.025)


def test_a_resolution_that_changes(tmp_path: Path) -> None:
    """The copy keeps the first picture's size; others are fitted into it."""
    first = write_clip(tmp_path / "a.ts", switch_s=9.0)
    second = write_clip(
        tmp_path / "b.ts",
        size=(120, 160),
        picture_from_s=3.0,
        sound_from_s=3.0,
        switch_s=3.0,
        beep_s=4.0,
        seconds=6.0,
    )
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    copy = decode(annotate(NOTHING, joined, tmp_path / "copy.mp4"))
    assert copy.size == (160, 120)
    assert copy.switch_s == pytest.approx(3.0, abs=2 * ONE_FRAME_S)
    assert copy.times[-1] == pytest.approx(6.0 - FRAME_S, abs=2 * ONE_FRAME_S)


@pytest.mark.parametrize("size", [(161, 121), (1, 1), (33, 7)])
def test_sizes_that_the_encoder_does_not_take(size: tuple[int, int], tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mkv", size=size, codec="ffv1", pixels="yuv444p")
    copy = decode(annotate(NOTHING, source, tmp_path / "copy.mp4"))
    assert all(side % 2 == 0 for side in copy.size)
    assert abs(copy.size[0] - size[0]) <= 1 and abs(copy.size[1] - size[1]) <= 1
    assert copy.beep_s == pytest.approx(1.2, abs=0.025)


@pytest.mark.parametrize(("ratio", "columns"), [(Fraction(2), 320), (Fraction(1, 2), 80)])
def test_pixels_that_are_not_square_are_shown_as_they_are_meant(
    ratio: Fraction, columns: int, tmp_path: Path
) -> None:
    source = write_clip(tmp_path / "clip.mkv", ratio=ratio)
    copy = decode(annotate(NOTHING, source, tmp_path / "copy.mp4"))
    assert copy.size == (columns, 120)
