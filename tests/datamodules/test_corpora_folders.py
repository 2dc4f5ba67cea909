"""Recordings in folders named after emotions, and tables as spreadsheet programs write them."""

from pathlib import Path

import pytest

from avser.cli import main
from avser.data.splits import AutoSplit, clip_name
from avser.datamodules.corpora.folders import Folders
from avser.datamodules.corpora.manifest import Manifest
from avser.errors import ConfigError, CorpusError, SplitError
from avser.types import Clip


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(corpus: Folders | Manifest) -> list[tuple[str, str | None, str]]:
    return [(c.clip_id, c.emotion, c.speaker) for c in corpus.clips()]


@pytest.mark.parametrize("layout", ["{who}/{what}/1.wav", "{what}/{who}/1.wav"])
def test_the_folder_beside_the_emotion_is_the_speaker(layout: str, tmp_path: Path) -> None:
    names = [layout.format(who=w, what=e) for w in ("anna", "ben") for e in ("Anger", "sad")]
    corpus = Folders(touch(tmp_path, *names, "notes/x.wav"))
    assert {(e, s) for _, e, s in rows(corpus)} == {
        (e, f"folders/{w}") for w in ("anna", "ben") for e in ("angry", "sad")
    }
    assert corpus.notes == [
        "2 speakers, by the names of folders: anna, ben",
        "1 files left out, in no folder named after an emotion (first: notes/x)",
    ]


def test_speakers_come_from_a_pattern_or_are_unknown(tmp_path: Path) -> None:
    root = touch(tmp_path, "mine/angry/anna_1.wav", "mine/sad/ben_1.mp4", "mine/sad/ben_1.wav")
    assert rows(Folders(root)) == [
        ("mine/angry/anna_1", "angry", ""),
        ("mine/sad/ben_1", "sad", ""),  # sound and video of one take
    ]
    angry, sad = Folders(root, speaker=r"([a-z]+)_\d").clips()
    assert (angry.speaker, sad.speaker) == ("folders/anna", "folders/ben")
    assert sad.path.suffix == ".wav" and sad.video == root / "mine/sad/ben_1.mp4"
    with pytest.raises(ConfigError, match=r"Bad speaker '\('"):
        Folders(root, speaker="(")
    with pytest.raises(CorpusError, match="holds no files like angry/01"):
        Folders(touch(tmp_path / "other", "a/1.wav")).clips()
    assert Folders(touch(tmp_path / "de", "Wut/1.wav"), labels={"wut": "angry"}).clips()


def test_two_sounds_of_one_name_are_two_clips(tmp_path: Path) -> None:
    root = touch(tmp_path, "sad/1.wav", "sad/1.flac", "sad/2.wav", "sad/2.mp4", "sad/3.mp4")
    touch(tmp_path, "sad/3.mov", "sad/4.wav", "sad/4.mp3", "sad/4.mkv")
    clips = {c.clip_id: (c.path.name, c.video and c.video.name) for c in Folders(root).clips()}
    assert clips == {
        "sad/1.flac": ("1.flac", None),
        "sad/1.wav": ("1.wav", None),
        "sad/2": ("2.wav", "2.mp4"),
        "sad/3.mov": ("3.mov", "3.mov"),
        "sad/3.mp4": ("3.mp4", "3.mp4"),
        "sad/4.mp3": ("4.mp3", "4.mkv"),
        "sad/4.wav": ("4.wav", "4.mkv"),
    }
    assert list(clips) == sorted(clips)


def test_parts_are_folders_too(tmp_path: Path) -> None:
    clips = Folders(touch(tmp_path, "train/angry/1.wav", "val/sad/2.wav")).clips()
    assert [(c.part, c.speaker) for c in clips] == [("train", ""), ("validation", "")]


TABLES = {
    "comma": "path,emotion,speaker\na.wav,sad,anna\n",
    "semicolon": "path;emotion;speaker\r\na.wav;sad;anna\r\n",
    "tab": "path\temotion\tspeaker\na.wav\tsad\tanna\n",
    "capitals": "Path,EMOTION,Speaker\na.wav,sad,anna\n",
    "quotes": '"path", "emotion", "speaker"\n"a.wav", "sad", "anna"\n',
    "blank rows": "\npath,emotion,speaker\n\n,,\na.wav,sad,anna\n,,\n\n",
    "trailing": "path;emotion;speaker;;\na.wav;sad;anna;;\n",
    "separator": "sep=;\npath;emotion;speaker\na.wav;sad;anna\n",
}


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", TABLES)
def test_tables_of_spreadsheet_programs_are_read(name: str, coding: str, tmp_path: Path) -> None:
    path = touch(tmp_path, "a.wav") / "list.csv"
    path.write_bytes(TABLES[name].encode(coding))
    assert rows(Manifest(path)) == [("a", "sad", "manifest/anna")]


def test_a_german_table_has_umlauts_and_decimal_commas(tmp_path: Path) -> None:
    path = touch(tmp_path, "a.wav") / "list.csv"
    path.write_bytes("path;emotion;speaker;start\na.wav;sad;Jürgen;0,5\n".encode("cp1252"))
    (clip,) = Manifest(path).clips()
    assert (clip.speaker, clip.start_s) == ("manifest/Jürgen", 0.5)


def test_sound_beside_video_and_similar_speakers(tmp_path: Path) -> None:
    path = touch(tmp_path, "x.wav", "x.mp4") / "list.csv"
    path.write_text("path,emotion,speaker\nx.wav,sad,A1\nx.mp4,sad,a1\n")
    corpus = Manifest(path)
    assert [c.clip_id for c in corpus.clips()] == ["x.mp4", "x.wav"]
    assert corpus.notes == [
        "speakers 'A1' and 'a1' count as 2 people; spell them alike if they are one"
    ]


def clips(*speakers: str, part: str | None = None) -> list[Clip]:
    return [
        Clip(path=Path("x"), clip_id=f"{s}{n}", emotion="sad", speaker=s, corpus="m", part=part)
        for s in speakers
        for n in range(5)
    ]


def test_without_parts_there_are_at_most_as_many_folds_as_speakers() -> None:
    for count, folds in ((2, 2), (3, 3), (9, 5)):
        people = clips(*(f"m/{n}" for n in range(count)))
        split = AutoSplit()
        assert split.fold_count(people) == folds
        assert split.describe() == f"speaker_kfold, {folds} folds"
        tests = [AutoSplit(fold=k).split(people).test for k in range(folds)]
        assert sorted(clip_name(c) for test in tests for c in test) == sorted(
            clip_name(c) for c in people
        )
    own = [*clips("m/a", part="train"), *clips("m/b", part="test")]
    split = AutoSplit()
    assert {c.speaker for c in split.split(own).test} == {"m/b"}
    assert split.describe() == "given" and split.fold_count(own) == 1


@pytest.mark.parametrize("speakers", [("",), ("m/anna",)])
def test_without_two_speakers_the_flag_is_named(speakers: tuple[str, ...]) -> None:
    with pytest.raises(SplitError, match=r"--data\.split random .*RANDOM SPLIT"):
        AutoSplit().split(clips(*speakers))


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (["audit"], "--corpus NAME --root DIR"),
        (["audit", "--corpus", "foldrs"], "did you mean 'folders'"),
        (["audit", "-c", "configs/data/ravdes.yaml"], "did you mean 'configs/data/ravdess.yaml'"),
        (["audit", "--corpus", "savee", "--data.spilt", "loso"], "did you mean --data.split"),
    ],
)
def test_a_slip_is_one_short_sentence_with_the_cure(
    words: list[str], cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and cure in printed and len(printed) < 400
