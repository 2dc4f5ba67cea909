"""Damaged recordings of ten containers: a result or `MediaError`, in bounded time and memory."""

import random
import resource
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avser.errors import MediaError
from avser.media.clip import load_clip
from avser.media.faces import Detection
from avser.media.reader import probe

pytestmark = pytest.mark.long

COUNT = 5_000
MOST_S = 10.0  # a file
MOST_BYTES = 1.5e9
KINDS = {  # suffix: picture, sound
    "mp4": ("libx264", "aac"),
    "mov": ("mjpeg", "pcm_s16le"),
    "mkv": ("libx264", "libopus"),
    "webm": ("libvpx", "libopus"),
    "avi": ("mpeg4", "mp2"),
    "ts": ("libx264", "aac"),
    "flv": ("flv", "aac"),
    "ogg": (None, "libopus"),
    "wav": (None, "pcm_f32le"),
    "mp3": (None, "libmp3lame"),
}
ODD = [0, 1, 0x7F, 0x80, 0xFF]


def seed(path: Path) -> bytes:
    """Less than a second of small pictures and of noise."""
    codec, sound_codec = KINDS[path.suffix[1:]]
    noise = np.random.default_rng(1).normal(0, 0.1, 24_000).astype(np.float32)
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=10) if codec else None
        if video is not None:
            video.width = video.height = 32
            video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        audio = file.add_stream(sound_codec, rate=48_000, layout="mono")
        resampler = av.AudioResampler(audio.codec_context.format, "mono", 48_000)
        for index in range(8 if video is not None else 0):
            image = np.full((32, 32, 3), 20 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            file.mux(video.encode(frame))
        for start in range(0, len(noise), 960):
            frame = av.AudioFrame.from_ndarray(
                noise[None, start : start + 960], format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 48_000, start
            frame.time_base = Fraction(1, 48_000)
            for part in resampler.resample(frame):
                file.mux(audio.encode(part))
        file.mux(audio.encode(None))
        if video is not None:
            file.mux(video.encode(None))
    return path.read_bytes()


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Damage in one of the ways of storage and software, most of it in the header."""
    data = bytearray(content)
    size = len(data)
    where = draw.choice([min(size, 64), min(size, 600), size, size])
    from_end = draw.random() < 0.3  # an index may lie there
    for _ in range(draw.choice([1, 1, 2, 4, 8, 30])):
        if len(data) < 16:
            break
        place = draw.randrange(where)
        place = len(data) - 1 - place if from_end else place
        place = max(0, min(place, len(data) - 5))
        kind = draw.randrange(6)
        if kind == 0:
            data[place] = draw.choice(ODD)
        elif kind == 1:
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 2:  # a length, a count or a stamp
            value = draw.choice([0, 1, 2**15, 2**24, 2**31 - 1, 2**31, 2**32 - 1])
            data[place : place + 4] = value.to_bytes(4, draw.choice(["big", "little"]))
        elif kind == 3:
            data[place : place + draw.randrange(64)] = b""
        elif kind == 4:
            data[place:place] = data[place : place + draw.randrange(256)]
        else:
            data = data[: max(8, place)]
    return bytes(data)


def files(folder: Path, count: int) -> Iterator[tuple[int, Path]]:
    folder.mkdir(exist_ok=True)
    seeds = {kind: seed(folder / f"seed.{kind}") for kind in KINDS}
    for number in range(count):
        draw = random.Random(number)
        kind = list(KINDS)[number % len(KINDS)]
        path = folder / f"case.{kind}"
        path.write_bytes(mutated(seeds[kind], draw))
        yield number, path


def nobody(image: np.ndarray) -> list[Detection]:  # type: ignore[type-arg]
    return []


def peak_bytes() -> int:
    """Peak of this program's own memory; ``ru_maxrss`` would also keep its parent's."""
    status = Path("/proc/self/status")
    if not status.is_file():  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    row = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
    return int(row.split()[1]) * 1024


def read_all(folder: Path, count: int) -> None:
    """Read all files, and print what became of them; a wrong end is printed with its number."""
    ends: Counter[str] = Counter()
    slowest = (0.0, -1)
    for number, path in files(folder, count):
        begun = time.monotonic()
        try:
            probe(path)
            with load_clip(path, faces=True, detector=nobody) as clip:
                samples = clip.sound.cut(0, clip.sound.count)
                assert np.isfinite(samples).all() and np.abs(samples).max(initial=0) <= 1
                ends["warned" if clip.warnings else "read"] += 1
        except MediaError as error:
            assert str(error).startswith("Can't read ") and "\n" not in str(error), error
            ends["refused"] += 1
        except Exception:
            print("WRONG", number, path.suffix, traceback.format_exc())
            ends["WRONG"] += 1
        slowest = max(slowest, (time.monotonic() - begun, number))
    peak = peak_bytes()
    print(dict(ends), f"slowest {slowest[0]:.2f} s ({slowest[1]}), peak {peak / 1e6:.0f} MB")
    assert not ends["WRONG"] and slowest[0] < MOST_S and peak < MOST_BYTES
    assert min(ends["read"], ends["warned"], ends["refused"]) > count / 50


def test_damaged_files_give_a_result_or_a_media_error(tmp_path: Path) -> None:
    # in a process of its own: its peak of memory is that of reading alone, and a crash is seen
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import "
        f"Path; from test_media_fuzz import read_all; read_all(Path({str(tmp_path)!r}), {COUNT})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
    print(done.stdout)
