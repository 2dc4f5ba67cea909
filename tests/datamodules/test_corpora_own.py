"""Corpora of one's own: a CSV of clips, and several corpora as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from avser.datamodules.corpora.manifest import Manifest
from avser.datamodules.corpora.mix import Mix
from avser.datamodules.corpora.ravdess import Ravdess
from avser.errors import AvserError, ConfigError, CorpusError
from avser.testing import corpora as fakes
from avser.types import Clip, Corpus


def manifest(folder: Path, *lines: str) -> Manifest:
    (folder / "a.wav").touch()
    (folder / "b.mp4").touch()
    (folder / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return Manifest(folder / "list.csv")


def test_manifest_reads_its_columns(tmp_path: Path) -> None:
    corpus = manifest(
        tmp_path,
        "path,emotion,speaker,start,end,part,sex,sentence,video,features,mood",
        "a.wav,Anger,anna,0.5,1.5,val,F,s1,b.mp4,aus.csv#key,good",
        "b.mp4,,,,,,,,,,",
    )
    first, second = corpus.clips()
    assert first == Clip(
        path=tmp_path / "a.wav",
        clip_id="a@0.500",
        emotion="angry",
        speaker="manifest/anna",
        corpus="manifest",
        video=tmp_path / "b.mp4",
        features=f"{tmp_path / 'aus.csv'}#key",
        start_s=0.5,
        end_s=1.5,
        part="validation",
        sex="female",
        sentence="s1",
        attributes={"mood": "good"},
    )
    assert (second.emotion, second.speaker, second.part) == (None, "", None)
    assert second.video == second.path


HEADER = "path,emotion,speaker,start,end,part,sex"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("none.wav,angry,anna,,,,", r"there is no file .*none\.wav"),
        (",angry,anna,,,,", "the path is empty"),
        ("~nosuchuser/a.wav,angry,anna,,,,", r"there is no file .*~nosuchuser/a\.wav"),
        ("s3://a//a.wav,angry,anna,,,,", "Bad address s3://a//a.wav: one of its parts is empty"),
        ("a.wav,angri,anna,,,,", "did you mean 'angry'"),
        ("a.wav,angry,anna,x,,,", "time 'x' is not a number"),
        ("a.wav,angry,anna,nan,,,", "time 'nan' is not a number"),
        ("a.wav,angry,anna,-1,,,", "time '-1' is not"),
        ("a.wav,angry,anna,2,1,,", "end 1 s is not after start 2 s"),
        ("a.wav,angry,anna,,,exam,", "Bad part 'exam': expected one of train"),
        ("a.wav,angry,anna,,,,x", "Bad sex 'x'"),
        ("a.wav,angry,anna,,,,,,x", "it has 9 cells, expected at most the header's 7"),
        ("b.mp4,sad,ben,,,,", "stands there twice; leave one of the rows out, or"),
    ],
)
def test_manifest_bad_row_names_its_line(row: str, why: str, tmp_path: Path) -> None:
    corpus = manifest(tmp_path, HEADER, "b.mp4,happy,ben,,,,", "", row)
    with pytest.raises(CorpusError, match=rf"Bad line 4 of .*list\.csv.*{why}") as caught:
        corpus.clips()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["emotion,speaker", "sad,anna"], "lacks the column 'path'"),
        ([HEADER], "it has no rows"),
        (["path,emotion,Emotion", "a.wav,sad,happy"], "the column 'emotion' stands there twice"),
        (["path,emotion", '"a.wav,sad', "b.mp4,sad"], "a double quote is missing"),
    ],
)
def test_manifest_bad_header(lines: list[str], why: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=why):
        manifest(tmp_path, *lines).clips()


def test_manifest_takes_a_name_that_begins_with_a_tilde(tmp_path: Path) -> None:
    (tmp_path / "~a.wav").touch()
    [clip] = manifest(tmp_path, "path,emotion", "~a.wav,sad").clips()
    assert clip.path == tmp_path / "~a.wav"


def test_absolute_paths_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = [tmp_path / who / mood / "1.wav" for who in ("anna", "ben") for mood in ("sad", "calm")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch()
    lines = [f"{path},{path.parent.name}" for path in paths]
    clips = manifest(tmp_path, "path,emotion", *lines, "a.wav,happy").clips()
    assert [clip.clip_id for clip in clips] == [
        "a",
        "anna/calm/1",
        "anna/sad/1",
        "ben/calm/1",
        "ben/sad/1",
    ]
    [clip] = manifest(tmp_path, "path,emotion", lines[0]).clips()
    assert clip.clip_id == "1"  # the same on every machine


def test_a_missing_manifest_is_named_with_what_is_there(tmp_path: Path) -> None:
    manifest(tmp_path, "path,emotion", "a.wav,sad")
    with pytest.raises(CorpusError, match=r"it holds no manifest\.csv.*such as .*list\.csv' with"):
        Manifest(tmp_path).clips()
    with pytest.raises(CorpusError, match=r"/no\.csv': there is no such file or folder; expected"):
        Manifest(tmp_path / "no.csv").clips()


def test_manifest_of_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"RIFF\x00\x81\xfe")
    with pytest.raises(CorpusError, match="expected a CSV file of UTF-8 text"):
        Manifest(tmp_path).clips()


def test_mix_keeps_speakers_and_ids_apart(tmp_path: Path) -> None:
    tables = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        tables.append(manifest(tmp_path / name, "path,emotion,speaker", "a.wav,sad,anna"))
    ravdess = fakes.FAKES["ravdess"](tmp_path / "ravdess", speakers=1, per_emotion=1)
    parts: list[Corpus] = [Ravdess(ravdess), Manifest(tables[0].root, corpus="one")]
    parts.append(Manifest(tables[1].root, corpus="two"))
    clips = Mix(parts).clips()
    ids = [clip.clip_id for clip in clips]
    assert len(clips) == sum(len(part.clips()) for part in parts)
    assert ids == sorted(set(ids))
    assert {"one/anna", "two/anna", "ravdess/01"} <= {clip.speaker for clip in clips}
    assert {clip.corpus for clip in clips} == {"ravdess", "one", "two"}
    first = parts[0].clips()[0]
    assert replace(first, clip_id=f"ravdess/{first.clip_id}") in clips
    assert Mix(parts).label_target == "acted+given"
    with pytest.raises(ConfigError, match="'manifest' stands there twice"):
        Mix([tables[0], tables[1]]).clips()
    with pytest.raises(AvserError, match="at least one"):
        Mix([])
