"""Corpora in a store, and manifests whose paths are addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avser.cli import main
from avser.data.audio_cache import prepare
from avser.data.rows import clip_from_dict, clip_to_dict
from avser.datamodules.corpora import find_corpus
from avser.datamodules.corpora.fer2013 import Fer2013
from avser.datamodules.corpora.manifest import Manifest
from avser.datamodules.corpora.ravdess import Ravdess
from avser.errors import ConfigError, CorpusError, MediaError, StorageError
from avser.stores import Address, as_path
from avser.testing.corpora import FAKES
from avser.testing.media import voice, write_wav
from avser.testing.pictures.fer2013 import fake_fer2013
from avser.types import Clip

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def store() -> Iterator[Any]:
    """A store in memory; ``put`` copies a folder of this machine into it."""
    memory = fsspec.filesystem("memory")
    yield memory
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def put(store: Any, folder: Path, place: str) -> None:
    store.pipe({f"/{place}/{p.relative_to(folder).as_posix()}": p.read_bytes()
                for p in folder.rglob("*") if p.is_file()})  # fmt: skip


def test_addresses_have_the_parts_of_paths() -> None:
    clip = as_path("s3://bucket/anna/a.b.wav")
    assert isinstance(clip, Address) and clip.is_absolute()
    assert (clip.name, clip.stem, clip.suffix) == ("a.b.wav", "a.b", ".wav")
    assert str(clip.parent) == "s3://bucket/anna" and str(clip.parent / "x") == "s3://bucket/anna/x"
    assert clip.relative_to(as_path("s3://bucket/")).parts == ("anna", "a.b.wav")
    assert clip_from_dict(clip_to_dict(_clip(clip))) == _clip(clip)
    assert as_path("file:///tmp/a%20b.wav") == Path("/tmp/a b.wav")
    assert as_path("~/a.wav") == Path.home() / "a.wav"
    for wrong in ("s3://bucket//a.wav", "s3://bucket/./a.wav", "https://a.org/?u=https://b.org/c"):
        with pytest.raises(ConfigError, match=r"^Bad address .*one of its parts is empty or '.'"):
            as_path(wrong)


def _clip(path: Address) -> Clip:
    return Clip(path=path, clip_id="a", emotion=None, speaker="", corpus="x", video=path)


@pytest.mark.parametrize("name", ["crema_d", "folders", "iemocap", "manifest", "nemo", "ravdess"])
def test_a_corpus_in_a_store_has_the_clips_of_its_copy(
    name: str, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = FAKES[name](tmp_path / name, speakers=2, per_emotion=1)
    put(store, local, f"data/{name}")
    store.pipe({f"/data/{name}/.hidden/Actor_01/03-01-01-01-01-01-09.wav": b"",
                f"/data/{name}/__MACOSX/anna/Anger/9.wav": b""})  # fmt: skip
    here = find_corpus(name)(local).clips()
    monkeypatch.setenv("AVSER_DATA", "memory://data")
    there = find_corpus(name)().clips()
    assert [clip.clip_id for clip in there] == [clip.clip_id for clip in here]
    for ours, theirs in zip(here, there, strict=True):
        own = {**clip_to_dict(ours), "path": None, "video": None, "features": None}
        assert own == {**clip_to_dict(theirs), "path": None, "video": None, "features": None}
        below = ours.path.relative_to(local).as_posix()
        assert str(theirs.path) == f"memory://data/{name}/{below}"


def test_pictures_in_a_store_are_those_of_the_copy(store: Any, tmp_path: Path) -> None:
    local = fake_fer2013(tmp_path / "fer2013", per_emotion=1)
    put(store, local, "fer2013")
    here, there = Fer2013(local), Fer2013("memory://fer2013")
    pairs = zip(here.pictures(here.clips()), there.pictures(there.clips()), strict=True)
    assert all((one == other).all() for one, other in pairs)  # type: ignore[union-attr]


def test_missing_roots_are_one_sentence(store: Any) -> None:
    with pytest.raises(CorpusError, match=r"^Bad RAVDESS root 'memory://none': there is no such"):
        Ravdess("memory://none").clips()
    with pytest.raises(CorpusError, match=r"^Bad manifest 'memory://none': there is no such file"):
        Manifest("memory://none").clips()
    store.pipe("/few/a.csv", b"path\n")
    with pytest.raises(CorpusError, match=r"name a CSV, such as 'memory://few/a.csv'"):
        Manifest("memory://few").clips()
    with pytest.raises(ConfigError, match=r"^Bad folder https://a.org/x: web servers don't list"):
        Ravdess("https://a.org/x").clips()
    with pytest.raises(MediaError, match=r"nothing://x: Protocol not known: nothing"):
        Ravdess("nothing://x").clips()
    store.pipe("/few/01-01-01-01-01-01-01.csv", b"name\n")
    with pytest.raises(MediaError, match=r"^Bad features memory://few/t.csv: it is an address"):
        Ravdess("memory://few", features="memory://few/t.csv").clips()


def test_manifest_of_addresses(store: Any, tmp_path: Path) -> None:
    lines = ["path,emotion,speaker,video", "s3://one/anna/a.wav,angry,anna,",
             "memory://two/x/b.mp4,sad,ben,", "c.wav,happy,cleo,s3://one/c.mp4",
             "https://a.org/d.mp4?token=1,sad,dan,"]  # fmt: skip
    store.pipe("/two/list.csv", "\n".join(lines).encode())
    (tmp_path / "c.wav").touch()
    (tmp_path / "list.csv").write_text("\n".join(lines))
    for root, below in (
        (str(tmp_path), tmp_path / "c.wav"),
        ("memory://two", "memory://two/c.wav"),
    ):
        a, b, c, d = Manifest(f"{root}/list.csv").clips()
        assert [clip.clip_id for clip in (a, b, c, d)] == ["a", "b", "c", "d"]
        assert str(a.path) == "s3://one/anna/a.wav" and a.video is None
        assert str(b.path) == str(b.video) == "memory://two/x/b.mp4"
        assert str(c.path) == str(below) and str(c.video) == "s3://one/c.mp4"
        assert str(d.path) == str(d.video) == "https://a.org/d.mp4?token=1"
    twice = "path\ns3://one/anna/a.wav\ns3://one/ben/a.wav\ns3://one/ben/b.wav\n"
    store.pipe("/two/list.csv", twice.encode())
    assert [c.clip_id for c in Manifest("memory://two/list.csv").clips()] == ["anna/a", "ben/a",
                                                                              "ben/b"]  # fmt: skip


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Addresses that were read since the last call."""
    names: list[str] = []
    read = fsspec.open

    def counting(name: str, mode: str) -> Any:
        names.append(name)
        return read(name, mode)

    monkeypatch.setattr(fsspec, "open", counting)

    def since() -> list[str]:
        result = names.copy()
        names.clear()
        return result

    return since


def test_a_remote_clip_is_read_once_and_again_when_it_changes(
    store: Any, tmp_path: Path, opened: Callable[[], list[str]]
) -> None:
    sounds = [write_wav(tmp_path / "x.wav", voice(emotion, seconds=0.4)).read_bytes()
              for emotion in ("happy", "sad")]  # fmt: skip
    rows = [("a", "/a.wav"), ("b", "/b.wav"), ("none", "/none.wav")]
    store.pipe({"/a.wav": sounds[0], "/b.wav": sounds[1]})
    clips = [Clip(path=as_path(f"memory:/{path}"), clip_id=name, emotion="sad", speaker="",
                  corpus="x") for name, path in rows]  # fmt: skip
    first = prepare(clips)
    assert [clip.clip_id for clip in first.clips] == ["a", "b"]
    assert [(clip.clip_id, why) for clip, why in first.failed] == [
        ("none", "Can't read memory://none.wav: there is no such file or bucket; check the address "
                 "and the rights.")]  # fmt: skip
    assert sorted(opened()) == ["memory://a.wav", "memory://b.wav"]
    assert prepare(clips).waves.digests == first.waves.digests and opened() == []
    store.pipe("/a.wav", sounds[1])
    changed = prepare(clips)
    assert opened() == ["memory://a.wav"]
    assert changed.waves.digests == [first.waves.digests[1]] * 2


def test_a_file_without_a_version_is_known_by_its_content(
    store: Any, tmp_path: Path, opened: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avser.stores._VERSIONS", ())
    clip = Clip(path=as_path("memory://a.wav"), clip_id="a", emotion=None, speaker="", corpus="x")
    digests = []
    for emotion in ("happy", "happy", "sad"):
        store.pipe(
            "/a.wav", write_wav(tmp_path / "a.wav", voice(emotion, seconds=0.4)).read_bytes()
        )
        digests += prepare([clip]).waves.digests
        assert len(opened()) == 2 - (len(digests) == 2)  # the second time it is not decoded
    assert digests[0] == digests[1] != digests[2]


def test_a_store_that_refuses_everything_ends_the_preparation_and_keeps_what_is_done(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[[], list[str]]
) -> None:
    sound = write_wav(tmp_path / "x.wav", voice("happy", seconds=0.4)).read_bytes()
    store.pipe({f"/{n}.wav": sound + bytes([n]) for n in range(5)})
    clips = [Clip(path=as_path(f"memory://{n}.wav"), clip_id=str(n), emotion=None, speaker="",
                  corpus="x") for n in range(5)]  # fmt: skip

    expired = type("ExpiredToken", (Exception,), {})  # as stores' packages name it
    read = fsspec.open

    def expiring(name: str, mode: str) -> Any:
        if name == "memory://3.wav":
            raise expired("The provided token has expired.")
        return read(name, mode)

    with monkeypatch.context() as patch:
        patch.setattr(fsspec, "open", expiring)
        with pytest.raises(StorageError, match=r"^Can't read memory://3\.wav: The provided token"):
            prepare(clips, workers=1)
    opened()
    assert len(prepare(clips, workers=1).clips) == 5
    assert opened() == ["memory://3.wav", "memory://4.wav"]


def test_a_corpus_in_a_store_is_audited(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, FAKES["ravdess"](tmp_path / "ravdess", speakers=3, per_emotion=1), "ravdess")
    words = ["--corpus", "ravdess", "--root", "memory://ravdess"]
    assert main(["audit", *words, "--data.split.init_args.folds=3"]) == 0
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines()]
    assert [[int(n) for n in row[1:]] for row in rows if row and "clips" in row[0]] == [[13, 3, 8]]
