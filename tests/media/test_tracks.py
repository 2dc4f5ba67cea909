"""Choice among several tracks of sound, by the tone that each of them holds."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from media_files import joined, pitch, tone

from avser.media.clip import load_clip
from avser.media.reader import open_media, read_audio

RATE = 48_000


def write_tracks(
    path: Path,
    tones: Sequence[np.ndarray],
    *,
    default: Sequence[int],
    seconds: float = 2.0,
    picture: bool = False,
) -> Path:
    """A track of sound for each tone, of which ``default`` are marked, perhaps a grey picture."""
    with av.open(str(path), "w") as file:
        if picture:
            video = file.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        tracks = [file.add_stream("aac", rate=RATE, layout="mono") for _ in tones]
        for index, track in enumerate(tracks):
            track.disposition = Disposition.default if index in default else Disposition(0)
        for index in range(round(seconds * 10) if picture else 0):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            file.mux(video.encode(frame))
        for start in range(0, len(tones[0]), 1_024):
            for track, samples in zip(tracks, tones, strict=True):
                piece = samples[None, start : start + 1_024].astype(np.float32)
                chunk = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
                chunk.sample_rate, chunk.time_base = RATE, Fraction(1, RATE)
                chunk.pts = start
                file.mux(track.encode(chunk))
        for stream in [*tracks, *([video] if picture else [])]:
            file.mux(stream.encode())
    return path


def silence(seconds: float = 2.0) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


LATE = np.concatenate([silence(1.5), tone(0.5, RATE, hz=300)])  # silent at first, not throughout


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("tones", "default", "hz", "warning"),
    [
        ([silence(), tone(2, RATE, hz=600)], [0], 600, "track 1 of 2 is silent, so that track 2"),
        ([silence(), tone(2, RATE, hz=600)], [1], 600, None),
        ([tone(2, RATE, hz=300), tone(2, RATE, hz=600)], [0], 300, None),
        ([tone(2, RATE, hz=300), tone(2, RATE, hz=600)], [1], 600, None),
        ([tone(2, RATE, hz=300), silence()], [1], 300, "track 2 of 2 is silent, so that track 1"),
        ([silence(), silence(), tone(2, RATE, hz=600)], [0], 600, "track 3 is used"),
        ([LATE, tone(2, RATE, hz=600)], [0], 300, None),
    ],
)
def test_the_default_track_is_used_unless_it_is_silent(
    tmp_path: Path,
    suffix: str,
    tones: Sequence[np.ndarray],
    default: Sequence[int],
    hz: float,
    warning: str | None,
) -> None:
    path = write_tracks(tmp_path / f"a{suffix}", tones, default=default)
    with open_media(path, frame_times=0.5) as reader:
        assert pitch(joined(list(reader))) == pytest.approx(hz, abs=3)
        assert (warning is None and not reader.warnings) or str(warning) in str(reader.warnings)


def test_every_way_of_reading_takes_the_same_track(tmp_path: Path) -> None:
    tones = [silence(), tone(2, RATE, hz=600)]
    path = write_tracks(tmp_path / "a.mp4", tones, default=[0], picture=True)
    assert pitch(read_audio(path)) == pytest.approx(600, abs=3)
    assert pitch(read_audio(path, start_s=1.0, end_s=1.5)) == pytest.approx(600, abs=3)
    with load_clip(path) as clip:  # of the predictor, the page and the exported runtime
        assert pitch(clip.sound.cut(0, clip.sound.count)) == pytest.approx(600, abs=3)
        assert "track 2 is used" in str(clip.warnings)


def test_of_silent_tracks_the_first_is_used_without_a_warning(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", [silence(), silence()], default=[0])
    with open_media(path) as reader:
        assert not np.abs(joined(list(reader))).max() > 1e-3 and reader.warnings == ()


def test_a_new_file_under_an_old_name_is_looked_at_anew(tmp_path: Path) -> None:
    path, loud = tmp_path / "a.mp4", tone(2, RATE, hz=600)
    write_tracks(path, [silence(), loud], default=[0])
    assert pitch(read_audio(path)) == pytest.approx(600, abs=3)
    write_tracks(path, [tone(2, RATE, hz=300), loud], default=[0])
    assert pitch(read_audio(path)) == pytest.approx(300, abs=3)
