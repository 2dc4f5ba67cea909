import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from media_files import joined, pitch, tone, write_clip, write_wav

from avser.errors import ConfigError, MediaError
from avser.media.clip import load_clip
from avser.media.reader import open_media, probe, read_audio
from avser.types import SAMPLE_RATE


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(
        tmp_path_factory.mktemp("media") / "clip.mp4", options={"movflags": "faststart"}
    )


def test_zero_samples_are_no_error(tmp_path: Path) -> None:
    assert read_audio(write_wav(tmp_path / "a.wav", np.zeros(0, np.float32))).shape == (0,)


@pytest.mark.parametrize("read", [probe, read_audio, load_clip])
def test_a_rate_that_makes_hours_of_a_small_file_is_refused(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    path = write_wav(tmp_path / "a.wav", tone(2, SAMPLE_RATE))
    content = bytearray(path.read_bytes())
    assert content[24:28] == SAMPLE_RATE.to_bytes(4, "little")
    content[24:28] = (1).to_bytes(4, "little")  # nine hours
    path.write_bytes(content)
    with pytest.raises(MediaError, match="states 1 samples a second, and below 1000 there is no"):
        read(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".wav"])
def test_a_truncated_file_gives_its_good_part(
    tmp_path: Path, clip: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = {
        ".mp4": lambda: clip,
        ".mkv": lambda: write_clip(tmp_path / "whole.mkv"),
        ".wav": lambda: write_wav(tmp_path / "whole.wav", tone(4, SAMPLE_RATE)),
    }[suffix]().read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with open_media(path, frame_times=0.5) as reader:
        samples = joined(list(reader))
    assert reader.truncated
    assert "ends before its stated end" in str(reader.warnings)
    assert SAMPLE_RATE < len(samples) < 3 * SAMPLE_RATE
    assert pitch(samples) == pytest.approx(440, abs=1)
    with caplog.at_level(logging.WARNING):
        assert len(read_audio(path)) == len(samples)
    if suffix != ".mkv":  # it states one length for both, and the sound may be the shorter
        assert str(path) in caplog.text


def test_a_name_cannot_move_the_cursor_where_damage_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = write_wav(tmp_path / "whole.wav", tone(2, SAMPLE_RATE)).read_bytes()
    path = tmp_path / "cut\x1b[2J\u202e.wav"
    path.write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING):
        read_audio(path)
    (message,) = caplog.messages
    assert r"cut\x1b[2J\u202e.wav: the file is damaged" in message
    assert not set("\x1b\u202e\n") & set(message)


def test_damage_inside_leaves_the_rest(tmp_path: Path, clip: Path) -> None:
    damaged = bytearray(clip.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 4_000] = bytes(4_000)
    path = tmp_path / "a.mp4"
    path.write_bytes(damaged)
    with open_media(path, frame_times=0.04) as reader:
        blocks = list(reader)
    assert reader.bad_packets > 0
    assert "can't be decoded" in str(reader.warnings)
    assert len(joined(blocks)) == pytest.approx(4 * SAMPLE_RATE, abs=SAMPLE_RATE // 4)
    assert sum(len(block.frames) for block in blocks) > 80


def test_what_is_no_media_is_refused_in_one_sentence(tmp_path: Path, clip: Path) -> None:
    garbage = np.random.default_rng(0).bytes(50_000)
    files = {
        "empty.wav": b"",
        "text.mp4": b"hello " * 500,
        "notes.txt": b"hello " * 500,
        "random.mp4": garbage,
        "random.wav": garbage,
        "random.aac": garbage,
        "list.m3u8": f"#EXTM3U\n#EXTINF:4,\n{clip}\n#EXT-X-ENDLIST\n".encode(),
        "list.mp4": f"ffconcat version 1.0\nfile '{clip}'\n".encode(),
        "headonly.mp4": clip.read_bytes()[:600],
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for path in [*(tmp_path / name for name in files), tmp_path / "none.wav", tmp_path]:
        with pytest.raises(MediaError) as caught:
            read_audio(path)
        message = str(caught.value)
        assert message.startswith(f"Can't read {path}: ")
        assert message.endswith(".")
        assert "\n" not in message
        with pytest.raises(MediaError):
            probe(path)


def test_a_pointer_of_git_lfs_is_named_with_its_cure(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n")
    for read in (read_audio, probe, load_clip):
        with pytest.raises(MediaError, match=r"git-lfs pointer.*'git lfs pull'"):
            read(path)


@pytest.mark.parametrize("target", ["loop.wav", "gone.wav"])
def test_a_link_that_leads_nowhere_is_named_as_one(tmp_path: Path, target: str) -> None:
    path = tmp_path / "loop.wav"
    path.symlink_to(tmp_path / target)
    with pytest.raises(MediaError, match="it is a link to nothing, or to itself; mend the link"):
        read_audio(path)


@pytest.mark.parametrize("name", ["a" * 300 + ".wav", "a\0b.wav", "b.wav/c.wav", "d/x.wav"])
def test_odd_names_are_media_errors(tmp_path: Path, name: str) -> None:
    write_wav(tmp_path / "b.wav", tone(0.1, SAMPLE_RATE))
    for read in (read_audio, probe, load_clip):
        with pytest.raises(MediaError, match=r"^Can't read ") as caught:
            read(tmp_path / name)
        assert "\0" not in str(caught.value)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "I/O")])
def test_what_the_system_refuses_is_a_media_error(
    tmp_path: Path, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_wav(tmp_path / "a.wav", tone(0.1, SAMPLE_RATE))

    def refuse(*args: object, **kwargs: object) -> None:
        raise error

    for method in ("open", "exists", "stat"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, method, refuse)
            for read in (read_audio, probe, load_clip):
                with pytest.raises(MediaError, match=f"the system says '{error.strerror.lower()}'"):
                    read(path)


@pytest.mark.parametrize("error", [IndexError("x"), KeyError("x"), ValueError("x"), MemoryError()])
def test_only_media_errors_leave(
    clip: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr("avser.media.clock.FileClock.correct", fail)
    with pytest.raises(MediaError, match=r"^Can't read .*\.$"):
        read_audio(clip)


def test_huge_stamps_cost_no_time_or_memory(tmp_path: Path) -> None:
    """Each sound packet of an FLV file claims another day."""
    content = bytearray(write_clip(tmp_path / "a.flv", seconds=1).read_bytes())
    place, number = 13, 0
    while place + 11 <= len(content):
        number += 1
        stamp = (number * 86_400_000) % 2**32
        content[place + 4 : place + 7], content[place + 7] = stamp.to_bytes(4)[1:], stamp >> 24
        place += 15 + int.from_bytes(content[place + 1 : place + 4])
    path = tmp_path / "b.flv"
    path.write_bytes(content)
    with open_media(path, frame_times=0.25) as reader:
        blocks = list(reader)
    assert len(joined(blocks)) < 3_700 * SAMPLE_RATE
    assert sum(len(block.frames) for block in blocks) < 4 * 3_700
    assert any("time stamps jump" in warning for warning in reader.warnings)


def test_settings_out_of_range_are_refused(clip: Path) -> None:
    for start_s, end_s in ((-1.0, None), (1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ConfigError, match="0 <= start < end"):
            open_media(clip, start_s=start_s, end_s=end_s)
    with pytest.raises(ConfigError, match="frame_height"):
        open_media(clip, frame_height=0)
    with pytest.raises(ConfigError, match="block_s"):
        open_media(clip, block_s=0)
    with pytest.raises(ConfigError, match="interval"):
        open_media(clip, frame_times=0)
    with pytest.raises(ConfigError, match="ascending"):
        list(open_media(clip, frame_times=[1.0, 0.5]))


def test_a_reader_may_be_left_early_and_closed_twice(clip: Path) -> None:
    with open_media(clip, block_s=0.1) as reader:
        next(reader)
    reader.close()
    assert list(reader) == []
