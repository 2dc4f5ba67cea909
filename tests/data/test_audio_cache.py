import multiprocessing
import pickle
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avser.data import audio_cache as cache
from avser.data.audio_cache import Prepared, clip_key, prepare
from avser.data.content import cache_folder
from avser.errors import CacheError
from avser.testing.media import Sound, voice, write_wav
from avser.types import Clip

EMOTIONS = ("happy", "sad", "angry", "neutral", "fearful", "calm")


def clip_of(path: Path, *, start_s: float | None = None, end_s: float | None = None) -> Clip:
    name = path.stem if start_s is None and end_s is None else f"{path.stem}@{start_s}-{end_s}"
    return Clip(
        path=path,
        clip_id=name,
        emotion="happy",
        speaker="fake/1",
        corpus="fake",
        start_s=start_s,
        end_s=end_s,
    )


def sound(emotion: str) -> Sound:
    return voice(emotion, speaker="fake/1", seconds=0.3)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Six short recordings."""
    return [clip_of(write_wav(tmp_path / "wav" / f"{e}.wav", sound(e))) for e in EMOTIONS]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the clips that were decoded, in the order in which it was done."""
    names: list[str] = []
    decode: Callable[[Clip], NDArray[np.int16]] = cache._decode

    def counting(clip: Clip) -> NDArray[np.int16]:
        names.append(clip.clip_id)
        return decode(clip)

    monkeypatch.setattr(cache, "_decode", counting)
    return names


def right(prepared: Prepared, clips: list[Clip]) -> bool:
    """Whether all clips are there and hold the sound that was written."""
    return [c.clip_id for c in prepared.clips] == [c.clip_id for c in clips] and all(
        np.abs(wave / 32768 - sound(clip.clip_id)).max() < 3 / 32768
        for clip, wave in zip(prepared.clips, prepared.waves, strict=True)
    )


def segments() -> list[Path]:
    return sorted(p for p in cache_folder().glob("*.i16") if p.stat().st_size)


# -- decoded once --------------------------------------------------------------------------------


def test_the_second_time_nothing_is_decoded(clips: list[Clip], decoded: list[str]) -> None:
    assert right(prepare(clips), clips)
    assert sorted(decoded) == sorted(EMOTIONS)
    decoded.clear()
    again = prepare(clips[::-1])
    assert decoded == [] and right(again, clips[::-1])


def test_samples_are_what_was_written_to_the_last_bit_but_one(clips: list[Clip]) -> None:
    (wave, *_) = prepare(clips).waves
    assert wave.dtype == np.int16 and len(wave) == 4800
    # rounded to 16 bits by the file, then stretched by 32767 / 32768
    assert np.abs(wave / 32767 - sound("happy")).max() < 1.01 / 32768
    assert prepare(clips).waves.lengths == [4800] * 6


def test_a_moved_file_is_not_decoded_again(clips: list[Clip], decoded: list[str]) -> None:
    first = prepare(clips).waves.digests
    decoded.clear()
    folder = clips[0].path.parent
    moved = folder.rename(folder.with_name("elsewhere"))
    result = prepare([clip_of(moved / c.path.name) for c in clips])
    assert decoded == [] and result.waves.digests == first


def test_a_changed_file_is_decoded_again(clips: list[Clip], decoded: list[str]) -> None:
    prepare(clips)
    decoded.clear()
    write_wav(clips[0].path, sound("surprised"))
    wave = prepare(clips).waves[0]
    assert decoded == ["happy"]
    assert np.abs(wave / 32768 - sound("surprised")).max() < 3 / 32768


def test_parts_of_a_file_are_kept_apart(clips: list[Clip]) -> None:
    path = clips[0].path
    parts = [clip_of(path), clip_of(path, start_s=0.1), clip_of(path, start_s=0.1, end_s=0.2)]
    assert len({clip_key(c) for c in parts}) == 3
    whole, late, middle = prepare(parts).waves
    assert [len(w) for w in (whole, late, middle)] == [4800, 3200, 1600]
    assert np.array_equal(whole[1600:], late) and np.array_equal(late[:1600], middle)


def test_copies_of_a_recording_have_one_digest(clips: list[Clip], tmp_path: Path) -> None:
    copy = tmp_path / "wav" / "copy.wav"
    copy.write_bytes(clips[1].path.read_bytes())
    result = prepare([*clips, clip_of(copy)]).waves.digests
    assert result[-1] == result[1] and len(set(result)) == len(clips)


# -- interrupted, damaged, shared ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_interrupted_preparation_goes_on_where_it_was(
    clips: list[Clip], decoded: list[str], kind: type[BaseException]
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise kind("stopped")

    with pytest.raises(kind, match="stopped"):
        prepare(clips, workers=1, progress=stop)
    decoded.clear()
    recorded: list[tuple[int, int]] = []
    assert right(prepare(clips, progress=lambda *args: recorded.append(args)), clips)
    assert sorted(decoded) == sorted(EMOTIONS[2:])
    assert recorded == [(n, 4) for n in range(1, 5)]


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[4000] ^= 0xFF  # inside the first clip of the segment
    path.write_bytes(raw)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2001])  # an odd size too: half a sample is left


@pytest.mark.parametrize(
    ("damage", "lost"),
    [(flip, {"happy"}), (cut, set(EMOTIONS)), (Path.unlink, set(EMOTIONS))],
)
def test_damaged_samples_are_noticed_and_decoded_anew(
    clips: list[Clip], decoded: list[str], damage: Callable[[Path], None], lost: set[str]
) -> None:
    prepare(clips)
    (segment,) = segments()
    decoded.clear()
    damage(segment)
    assert right(prepare(clips), clips)
    assert set(decoded) == lost
    decoded.clear()
    assert right(prepare(clips), clips) and decoded == []


def test_a_segment_without_its_end_loses_only_what_was_there(
    clips: list[Clip], decoded: list[str]
) -> None:
    prepare(clips, workers=1)
    (segment,) = segments()
    decoded.clear()
    segment.write_bytes(segment.read_bytes()[:-100])
    assert right(prepare(clips), clips) and decoded == ["calm"]


def overwrite_head(raw: bytes) -> bytes:
    return b"no database" * 40 + raw[440:]


def overwrite_pages(raw: bytes) -> bytes:
    return raw[:4096] + b"\xff" * (len(raw) - 4096)  # the head is whole, the tables are not


@pytest.mark.parametrize("damage", [overwrite_head, overwrite_pages, lambda raw: b"\0" * len(raw)])
def test_a_damaged_index_is_made_again(
    clips: list[Clip], decoded: list[str], damage: Callable[[bytes], bytes]
) -> None:
    prepare(clips)
    decoded.clear()
    index = cache_folder() / "index.sqlite"
    index.write_bytes(damage(index.read_bytes()))
    assert right(prepare(clips), clips)
    assert sorted(decoded) == sorted(EMOTIONS)
    assert len(list(cache_folder().glob("index.damaged-*"))) == 1


def _digests(paths: list[Path], folder: Path) -> list[str]:
    return prepare([clip_of(p) for p in paths], folder=folder, workers=2).waves.digests


def test_two_processes_at_once_both_end_right(clips: list[Clip]) -> None:
    paths = [c.path for c in clips]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        orders = [(paths, cache_folder()), (paths[::-1], cache_folder())]
        one, other = pool.starmap(_digests, orders)
    assert one == other[::-1] and len(set(one)) == 6
    assert right(prepare(clips), clips)
    with sqlite3.connect(cache_folder() / "index.sqlite") as connection:
        assert connection.execute("SELECT COUNT(*) FROM clips").fetchone() == (6,)
    connection.close()


def test_four_threads_at_once_all_end_right(clips: list[Clip]) -> None:
    with ThreadPoolExecutor(4) as pool:
        result = list(pool.map(lambda _: prepare(clips), range(4)))
    assert all(right(p, clips) for p in result)


# -- what can not be used ------------------------------------------------------------------------


def test_bad_clips_are_told_with_the_reason_and_the_rest_is_used(
    clips: list[Clip], tmp_path: Path
) -> None:
    text = tmp_path / "wav" / "text.wav"
    text.write_text("this is no sound\n" * 50)
    rows = [clips[0], clip_of(text), clips[1], clip_of(tmp_path / "gone.wav")]
    result = prepare(rows)
    assert right(result, clips[:2])
    assert [(c.clip_id, r.count("\n")) for c, r in result.failed] == [("text", 0), ("gone", 0)]
    assert "text.wav" in result.failed[0][1]
    assert "gone.wav" in result.failed[1][1]


def test_a_part_after_the_end_is_named_with_the_length(clips: list[Clip]) -> None:
    late = [replace(clips[0], clip_id=f"late{s}", start_s=s, end_s=None) for s in (0.3, 99.0)]
    result = prepare([clips[1], *late])
    assert right(result, clips[1:2])
    for (_, reason), start in zip(result.failed, ("0.3", "99"), strict=True):
        assert f"its part begins at {start} s, after its end at 0.30 s; correct the start" in reason


def test_a_corpus_without_one_good_clip_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("this is no sound")
    with pytest.raises(CacheError, match=r"none of its 2 clips.*the first says: .*text.wav"):
        prepare([clip_of(text), clip_of(text, start_s=0.1)])
    assert prepare([]).clips == []


def test_a_folder_that_can_not_be_written_is_one_sentence(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AVSER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheError, match=r"^Bad cache .*; set AVSER_CACHE to a folder .*\.$"):
        prepare(clips)


def test_a_disk_that_is_full_is_one_sentence(
    clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    prepare(clips[:1])
    monkeypatch.setattr(Path, "open", _open_unless_segment(Path.open, full))
    with pytest.raises(CacheError, match=r"^Bad cache .*No space left on device.*\.$"):
        prepare(clips)


def _open_unless_segment(
    true: Callable[..., object], instead: Callable[..., object]
) -> Callable[..., object]:
    def opened(path: Path, *args: object, **settings: object) -> object:
        return (instead if path.suffix == ".i16" else true)(path, *args, **settings)

    return opened


def test_a_store_travels_without_its_samples(clips: list[Clip]) -> None:
    waves = prepare(clips).waves
    before = [wave.copy() for wave in waves]  # maps are open now
    raw = pickle.dumps(waves)
    assert len(raw) < 4000 < sum(wave.nbytes for wave in before)
    assert all(np.array_equal(a, b) for a, b in zip(pickle.loads(raw), before, strict=True))
