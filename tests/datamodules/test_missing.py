"""Clips that can't be decoded: reported, counted, and refused where they are many."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import yaml
from pytorch_lightning.utilities import rank_zero_only

from avser.cli import main
from avser.cli.config import prepare_data
from avser.data import audio_cache
from avser.data.splits import Loso
from avser.datamodules.clips import ClipDataModule
from avser.datamodules.corpora.savee import Savee
from avser.errors import ConfigError, CorpusError
from avser.testing.corpora.savee import fake_savee
from avser.testing.media import write_wav
from avser.testing.nets import tiny_spec
from avser.types import Clip

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """SAVEE of four speakers, 14 clips each, two of which are equal pointers."""
    folder = fake_savee(tmp_path / "savee", speakers=4, per_emotion=2)
    for name in ("DC/a01.wav", "JE/h02.wav"):
        (folder / "AudioData" / name).write_text(POINTER)
    return folder


@pytest.fixture
def words(root: Path, tmp_path: Path) -> list[str]:
    """Words of a command that trains a tiny model on it."""
    path = tmp_path / "tiny.yaml"
    trainer = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}
    path.write_text(yaml.safe_dump({"model": tiny_spec(), "trainer": trainer}))
    return ["-c", "configs/data/savee.yaml", "-c", str(path), "--root", str(root)]


def lose_a_speaker(root: Path) -> None:
    for path in (root / "AudioData" / "DC").iterdir():
        path.write_text(POINTER)


def test_few_missing_clips_are_reported_everywhere(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["fit", *words, "--out", str(run)]) == 0
    printed = capsys.readouterr()
    sentence = "2 of 56 clips left out (first: "
    assert printed.err.count(sentence) == 1 and "a01.wav" in printed.err
    assert f"Note: {sentence}" in printed.out
    (note,) = [n for n in json.loads((run / "results.json").read_text())["notes"] if "left" in n]
    assert note.startswith(sentence) and note.count("a01.wav") == 1
    assert sentence in (run / "report.html").read_text()
    assert main(["evaluate", "--model", str(run), *words[:2], *words[4:], "--json", "-"]) == 0
    printed = capsys.readouterr()
    assert sentence in printed.err and note in json.loads(printed.out)["notes"]


def test_many_missing_clips_are_refused_unless_allowed(
    words: list[str], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_a_speaker(root)
    for command in ("fit", "crossval"):
        assert main([command, *words, "--out", str(tmp_path / command)]) == 1
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1 and "15 of 56 clips left out" in printed
        assert "at most 5 %" in printed and "--data.max_missing 0.27" in printed


@pytest.mark.long
def test_crossval_leaves_a_speaker_without_clips_out(
    words: list[str], root: Path, tmp_path: Path
) -> None:
    lose_a_speaker(root)
    crossval = ["crossval", *words, "--out", str(tmp_path / "crossval")]
    assert main([*crossval, "--data.max_missing", "0.27"]) == 0
    summary = json.loads((tmp_path / "crossval" / "results.json").read_text())
    assert summary["n"] == 41 and sorted(summary["per_speaker"]) == [
        "savee/JE", "savee/JK", "savee/KL",
    ]  # fmt: skip
    assert not any("UNFINISHED" in note for note in summary["notes"])
    assert any(note.startswith("15 of 56 clips left out") for note in summary["notes"])


def test_folds_count_speakers_with_a_decoded_clip(root: Path) -> None:
    lose_a_speaker(root)
    data = ClipDataModule(Savee(root), Loso(), max_missing=0.3)
    assert data.fold_count == 3 and data.split_description == "loso, fold 1 of 3"
    assert {c.speaker for c in data.parts.test} == {"savee/JE"}
    with pytest.raises(CorpusError, match=r"15 of 56 clips left out .*max_missing 0\.27\."):
        _ = ClipDataModule(Savee(root), Loso()).parts
    with pytest.raises(ConfigError, match=r"max_missing 1\.5: legal is 0 to 1"):
        ClipDataModule(Savee(root), Loso(), max_missing=1.5)


def test_audit_names_each_of_two_equal_files(
    words: list[str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_a_speaker(root)
    assert main(["audit", *words]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("left out: ")]
    assert len(lines) == len(set(lines)) == 15
    for line in lines:
        assert line.count(str(root)) == 1 and line.split(": ")[1].endswith(".wav")
    assert sum("JE/h02.wav" in line for line in lines) == 1
    printed = " ".join(printed.split())
    assert "More than 5 % of the clips are left out" in printed


def test_preparation_does_not_wait_for_the_disk_after_each_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []

    class Counting(sqlite3.Connection):
        def commit(self) -> None:
            commits.append(1)
            super().commit()

        def __exit__(self, *why: object) -> bool:
            commits.append(1)
            return super().__exit__(*why)  # type: ignore[arg-type]

    connect = sqlite3.connect
    monkeypatch.setattr(
        audio_cache.sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=Counting)
    )
    monkeypatch.setattr(audio_cache, "_COMMIT_S", 1e9)
    clips = []
    for n in range(40):
        path = write_wav(tmp_path / f"{n}.wav", np.full(800, (n + 1) / 100, np.float32))
        clips.append(Clip(path=path, clip_id=str(n), emotion="sad", speaker="x/a", corpus="x"))
    store = audio_cache.prepare(clips, folder=tmp_path / "cache")
    assert [len(store.waves[n]) for n in range(40)] == [800] * 40
    assert len(commits) <= 3


def test_only_the_first_process_prints_missing_clips(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_a_speaker(root)
    for rank, count in ((0, 1), (1, 0)):
        monkeypatch.setattr(rank_zero_only, "rank", rank, raising=False)
        prepare_data(ClipDataModule(Savee(root), Loso(), max_missing=0.3))
        assert capsys.readouterr().err.count("clips left out") == count
