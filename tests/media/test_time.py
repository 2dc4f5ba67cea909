"""Sound and picture lie where the file's time stamps place them, in every container and order.

Each file has a beep and a switch from dark to bright at known times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import OutputContainer
from av.packet import Packet
from numpy.typing import NDArray

from avser.media.reader import open_media, probe, read_audio
from avser.types import SAMPLE_RATE

CODECS = {
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "aac"),
    "mkv": ("libx264", "aac"),
    "webm": ("libvpx", "libopus"),
    "avi": ("mpeg4", "pcm_s16le"),
    "ts": ("libx264", "aac"),
    "flv": ("libx264", "aac"),
    "ogg": ("libvpx", "libopus"),
}
RATE = 48_000
DARK, BRIGHT = 40, 200
BEEP_S = 0.3


@dataclass(frozen=True)
class Case:
    """Times in seconds: pictures, the first bright one, sound from and to, and its beep."""

    pictures: Sequence[float]
    switch_s: float
    sound: tuple[float, float]
    beep_s: float
    b_frames: int = 2

    @property
    def start_s(self) -> float:
        return min(self.pictures[0], self.sound[0])

    @property
    def end_s(self) -> float:
        return max(self.pictures[-1] + 0.1, self.sound[1])


def every(step_s: float, start_s: float, end_s: float) -> list[float]:
    return np.arange(start_s, end_s - 1e-6, step_s).round(3).tolist()


def late_sound(by_s: float) -> Case:
    step_s = 0.1 if by_s < 10 else 0.5
    return Case(every(step_s, 0, by_s + 3), by_s + 2, (by_s, by_s + 3), by_s + 1)


def late_picture(by_s: float) -> Case:
    return Case(every(0.1, by_s, by_s + 3), by_s + 2, (0, by_s + 3), by_s + 1)


CASES = {
    "sound .05 s late": late_sound(0.05),
    "sound 2 s late": late_sound(2),
    "sound 65 s late": late_sound(65),
    "picture .05 s late": late_picture(0.05),
    "picture 2 s late": late_picture(2),
    "picture 65 s late": late_picture(65),
    "both start at 1000 s": Case(every(0.1, 1000, 1003), 1002, (1000, 1003), 1001),
    "held": Case([0, 0.1, 0.2, *every(0.1, 2.5, 3.5)], 2.5, (0, 3.5), 1),
    # reordering over the hole would shift all times of decoding by it
    "held 65 s": Case([0, 0.1, *every(0.1, 65, 66)], 65, (0, 66), 1, b_frames=0),
    "one picture": Case([0], 0, (0, 3), 1),
    "1 fps": Case(every(1, 0, 4), 2, (0, 4), 1),
    "variable rate": Case([0, 0.1, 0.15, 0.5, 0.6, 1.3, 1.34, 1.7, 2.2, 2.3, 2.9], 1.7, (0, 3), 1),
}


def write(path: Path, case: Case) -> Path:
    with av.open(str(path), "w") as file:
        video, audio = add_streams(file, path, case)
        packets = [*pictures_of(video, case, ticks_of(path, case)), *sound_of(audio, case)]
        packets.sort(key=lambda packet: float(packet.dts * packet.time_base))
        file.mux(packets)
    return path


def add_streams(
    file: OutputContainer, path: Path, case: Case
) -> tuple[av.VideoStream, av.AudioStream]:
    codec, sound_codec = CODECS[path.suffix[1:]]
    ticks = ticks_of(path, case)
    video = file.add_stream(codec, rate=ticks)
    video.width = video.height = 32
    video.pix_fmt, video.gop_size = "yuv420p", 5
    video.codec_context.time_base = Fraction(1, ticks)
    if codec == "libx264":
        video.options = {"preset": "ultrafast", "bf": str(case.b_frames)}
    if codec.startswith("libvpx"):
        video.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    return video, file.add_stream(sound_codec, rate=RATE, layout="mono")


def ticks_of(path: Path, case: Case) -> int:
    """Ticks a second of the picture; Ogg counts pictures and has no other time."""
    if path.suffix == ".ogg":
        return round(1 / (case.pictures[1] - case.pictures[0])) if len(case.pictures) > 1 else 10
    return 100 if path.suffix == ".avi" else 1_000


def pictures_of(video: av.VideoStream, case: Case, ticks: int) -> list[Packet]:
    packets = []
    for time_s in case.pictures:
        level = BRIGHT if time_s >= case.switch_s - 1e-6 else DARK
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8), format="rgb24")
        frame.pts, frame.time_base = round(time_s * ticks), Fraction(1, ticks)
        packets += video.encode(frame)
    return [*packets, *video.encode(None)]


def sound_of(audio: av.AudioStream, *cases: Case) -> list[Packet]:
    packets = [packet for case in cases for packet in encoded(audio, case)]
    return [*packets, *audio.encode(None)]


def encoded(audio: av.AudioStream, case: Case) -> list[Packet]:
    start_s, end_s = case.sound
    time_s = start_s + np.arange(round((end_s - start_s) * RATE)) / RATE
    on = (time_s >= case.beep_s) & (time_s < case.beep_s + BEEP_S)
    samples = np.where(on, 0.5 * np.sin(2 * np.pi * 1_000 * time_s), 0).astype(np.float32)
    packets = []
    for first in range(0, len(samples), 960):
        piece = samples[first : first + 960][None]
        form = "fltp"
        if audio.codec_context.name == "pcm_s16le":
            piece, form = (piece * 32767).astype(np.int16), "s16"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format=form, layout="mono")
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        frame.pts = round(start_s * RATE) + first
        packets += audio.encode(frame)
    return packets


def beeps(samples: NDArray[np.float32]) -> list[float]:
    """Times at which sound sets in after silence."""
    loud = np.flatnonzero(np.abs(samples) > 0.1)
    return (loud[np.diff(loud, prepend=-(10**6)) > 0.2 * SAMPLE_RATE] / SAMPLE_RATE).tolist()


def switches(levels: list[tuple[float, float]]) -> list[float]:
    """Times of the first bright frames after dark ones, or at the beginning."""
    bright = [level > 120 for _, level in levels]
    before = [False, *bright[:-1]]
    return [t for (t, _), now, was in zip(levels, bright, before, strict=True) if now and not was]


def read(path: Path) -> tuple[list[float], list[tuple[float, float]], tuple[str, ...]]:
    with open_media(path, frame_times=0.02) as reader:
        blocks = list(reader)
    samples = np.concatenate([np.zeros(0, np.float32), *(block.samples for block in blocks)])
    levels = [(f.time_s, float(f.image.mean())) for block in blocks for f in block.frames]
    np.testing.assert_array_equal(read_audio(path), samples)  # alone it lies where it lies beside
    return beeps(samples), levels, reader.warnings


#: AVI has no time stamps: sound begins with the file, and pictures fill it from the beginning.
#: Ogg counts pictures at a constant rate.
IMPOSSIBLE = {
    "avi": {"sound .05 s late", "sound 2 s late", "sound 65 s late", "both start at 1000 s"},
    "ogg": {"picture .05 s late", "held", "held 65 s", "variable rate"},
}
PAIRS = [(c, case) for c in CODECS for case in CASES if case not in IMPOSSIBLE.get(c, ())]
QUICK = {("mp4", "sound 65 s late"), ("mkv", "picture 2 s late"), ("ts", "held")}
QUICK |= {("flv", "sound 2 s late"), ("webm", "both start at 1000 s"), ("avi", "one picture")}
MATRIX = [
    pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.long, id="-".join(pair))
    for pair in PAIRS
]


@pytest.mark.parametrize(("container", "name"), MATRIX)
def test_a_beep_and_a_switch_are_where_they_were_put(
    tmp_path: Path, container: str, name: str
) -> None:
    case = CASES[name]
    path = write(tmp_path / f"a.{container}", case)
    received, levels, warnings = read(path)
    assert warnings == ()
    assert received == pytest.approx([case.beep_s - case.start_s], abs=0.025)
    assert switches(levels) == pytest.approx([case.switch_s - case.start_s], abs=0.105)
    last_s = case.end_s - case.start_s
    assert levels[-1][0] == pytest.approx(last_s, abs=0.11)
    if container != "ogg" or not name.startswith("sound"):  # it adds the delay to the length
        assert probe(path).duration_s == pytest.approx(last_s, abs=0.25)


# clocks that jump


SHORT = Case(every(0.1, 0, 3), 2, (0, 3), 1)


def shifted(case: Case, by_s: float) -> Case:
    start_s, end_s = case.sound
    return Case(
        [t + by_s for t in case.pictures],
        case.switch_s + by_s,
        (start_s + by_s, end_s + by_s),
        case.beep_s + by_s,
    )


def moved_flv(content: bytes, by_ms: int) -> bytes:
    """The tags of an FLV file, without its header, with other time stamps."""
    moved, place = bytearray(), 13
    while place + 11 <= len(content):
        size = int.from_bytes(content[place + 1 : place + 4])
        tag = bytearray(content[place : place + 11 + size + 4])
        stamp = int.from_bytes(bytes([tag[7], *tag[4:7]])) + by_ms
        tag[4:7], tag[7] = stamp.to_bytes(4)[1:], stamp >> 24
        if tag[0] != 18:  # facts about the first part
            moved += tag
        place += len(tag)
    return bytes(moved)


@pytest.mark.parametrize("second_starts_s", [0, 500])
@pytest.mark.parametrize("container", ["ts", "flv"])
def test_sound_and_picture_stay_together_where_the_clock_jumps(
    tmp_path: Path, container: str, second_starts_s: float
) -> None:
    first = write(tmp_path / f"first.{container}", SHORT).read_bytes()
    if container == "flv":
        second = moved_flv(first, 1000 * second_starts_s)
    else:
        moved = shifted(SHORT, second_starts_s)
        second = write(tmp_path / f"second.{container}", moved).read_bytes()
    path = tmp_path / f"joined.{container}"
    path.write_bytes(first + second)
    received, levels, warnings = read(path)
    bright = switches(levels)
    assert len(received) == 2 and len(bright) == 2
    assert (received[0], bright[0]) == pytest.approx((1, 2), abs=0.105)
    assert (received[1], bright[1]) == pytest.approx((4, 5), abs=0.15)
    assert bright[1] - received[1] == pytest.approx(1, abs=0.105)
    assert len(warnings) == 1 and "time stamps jump once, first at 3.0" in warnings[0]


@pytest.mark.parametrize("second_starts_s", [0, 500])
def test_what_can_not_be_placed_is_a_warning(tmp_path: Path, second_starts_s: float) -> None:
    """Ogg files with pictures, one after the other: the second part has streams of its own."""
    first = write(tmp_path / "first.ogg", SHORT).read_bytes()
    second = write(tmp_path / "second.ogg", shifted(SHORT, second_starts_s)).read_bytes()
    path = tmp_path / "joined.ogg"
    path.write_bytes(first + second)
    received, levels, warnings = read(path)
    assert received[0] == pytest.approx(1, abs=0.025)
    assert switches(levels)[0] == pytest.approx(2, abs=0.105)
    assert warnings and "damaged" in warnings[0]


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "webm"])
def test_an_index_confirms_a_long_pause_of_both(tmp_path: Path, container: str) -> None:
    pictures = [*every(0.1, 0, 1), *every(0.1, 101, 103)]
    case = Case(pictures, 102, (0, 1), 0.5, b_frames=0)
    path = write_paused(tmp_path / f"a.{container}", case, pause_s=100)
    received, levels, warnings = read(path)
    assert received == pytest.approx([0.5, 101.5], abs=0.025) and warnings == ()
    assert switches(levels) == pytest.approx([102], abs=0.105)


def write_paused(path: Path, case: Case, *, pause_s: float) -> Path:
    """The case's sound, once more after a pause."""
    with av.open(str(path), "w") as file:
        video, audio = add_streams(file, path, case)
        again = Case([], 0, (1 + pause_s, 3 + pause_s), pause_s + 1.5)
        packets = pictures_of(video, case, ticks_of(path, case)) + sound_of(audio, case, again)
        packets.sort(key=lambda packet: float(packet.dts * packet.time_base))
        file.mux(packets)
    return path


def test_a_slip_of_one_stamp_moves_nothing(tmp_path: Path) -> None:
    content = write(tmp_path / "a.flv", SHORT).read_bytes()
    place, sounds = 13, []
    while place + 11 <= len(content):
        if content[place] == 8:
            sounds.append(place)
        place += 15 + int.from_bytes(content[place + 1 : place + 4])
    for wrong_ms in (0, 2_000_000):
        spoilt = bytearray(content)
        spoilt[sounds[30] + 4 : sounds[30] + 8] = wrong_ms.to_bytes(4)[1:] + bytes([wrong_ms >> 24])
        path = tmp_path / "b.flv"
        path.write_bytes(spoilt)
        received, levels, _ = read(path)
        assert received == pytest.approx([1], abs=0.045)
        assert switches(levels) == pytest.approx([2], abs=0.105)
        assert probe(path).has_video
