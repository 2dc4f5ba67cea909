"""The commands that look at a corpus or measure a model on it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from avser.bundle.serialization import Provenance
from avser.cli import main
from avser.media.degradations import CONDITIONS
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.corpora.savee import fake_savee
from avser.testing.nets import tiny_bundle, tiny_spec

RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


@pytest.fixture(scope="session")
def ravdess(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four speakers, of whom two are women, and a doubled recording."""
    root = tmp_path_factory.mktemp("fake") / "ravdess"
    return str(fake_ravdess(root, speakers=("01", "02", "03", "07"), per_emotion=4))


@pytest.fixture(scope="session")
def savee(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(fake_savee(tmp_path_factory.mktemp("fake") / "savee", speakers=2, per_emotion=1))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that says it has heard speaker 01."""
    known = Provenance(corpora=["ravdess"], speakers=["ravdess/01"], licence="a licence", seed=3)
    return str(tiny_bundle(tmp_path_factory.mktemp("model") / "tiny", RAVDESS, provenance=known))


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model, trained for one epoch."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(
        yaml.safe_dump(
            {"model": tiny_spec(), "trainer": {"max_epochs": 1, "accelerator": "cpu"}},
        )
    )
    return str(path)


# -- audit, prepare, models ----------------------------------------------------------------------


def test_audit_tells_what_a_split_holds(
    ravdess: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-c", "configs/data/ravdess.yaml", "--root", ravdess]
    folds = ["--data.split.init_args.folds=2", "--model.lr", "1", "--trainer.max_epochs=3"]
    assert main(["audit", *words, *folds, "--plot", str(tmp_path / "plots")]) == 0
    message = capsys.readouterr().out
    rows = {line.split()[1]: line for line in message.splitlines() if line.startswith("│")}
    assert set(RAVDESS) | {"clips", "speakers"} <= set(rows)
    total = sum(int(word) for word in rows["clips"].split() if word.isdigit())
    assert total == 4 * 8 * 4  # the song is no speech
    shared = "duplicate recording: ravdess/03-01-03-01-02-01-07 = ravdess/03-01-03-01-02-02-07"
    assert shared in " ".join(message.split())
    assert "ravdess/01" in message and "CC BY-NC-SA 4.0" in message
    assert "note: validation by sentence" in message
    drawn = sorted(p.name for p in (tmp_path / "plots").iterdir())
    assert drawn == sorted(
        ["classes.png", "durations.png", *(f"example_{name}.png" for name in RAVDESS)]
    )
    for name in drawn:
        assert (tmp_path / "plots" / name).read_bytes().startswith(b"\x89PNG")


def test_prepare_decodes_once(
    savee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", "-c", "configs/data/savee.yaml", "--root", savee]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert first.startswith("14 clips of savee, 0.2 minutes")
    stored = {p: p.stat().st_size for p in (tmp_path / "cache").rglob("*.i16")}
    assert len(stored) == 1
    assert main(words) == 0
    assert capsys.readouterr().out == first
    assert {p: p.stat().st_size for p in (tmp_path / "cache").rglob("*.i16")} == stored


def test_corpus_that_is_not_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-c", "configs/data/ravdess.yaml", "--root", str(tmp_path / "nowhere")]
    for command in ("prepare", "audit"):
        assert main([command, *words]) == 1
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and "nowhere" in message and "--root" in message


def test_models_lists_those_that_are_installed(capsys: pytest.CaptureFixture[str]) -> None:
    from avser.bundle import serialization as bundle

    assert main(["models", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in result] == list(bundle.released())
    assert all(row["licence"] and len(row["emotions"]) >= 2 for row in result)
    assert main(["models"]) == 0
    message = capsys.readouterr().out
    assert all(row["licence"] in message for row in result)


# -- evaluate ------------------------------------------------------------------------------------


class Evaluate:
    """`avser evaluate` with the tiny model."""

    def __init__(self, model: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.model, self.capsys = model, capsys
        self.table = ""

    def __call__(self, *words: str) -> dict[str, Any]:
        assert main(["evaluate", "--model", self.model, *words, "--json", "-"]) == 0
        result = self.capsys.readouterr()
        self.table = result.err
        summary: dict[str, Any] = json.loads(result.out)
        return summary

    def sentence(self, *words: str) -> str:
        assert main(["evaluate", "--model", self.model, *words]) == 1
        message = self.capsys.readouterr().err
        assert message.count("\n") == 1 and message.startswith("avser evaluate: Bad ")
        return message


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def evaluate(
    model: str,
    shared_cache: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Evaluate:
    monkeypatch.setenv("AVSER_CACHE", shared_cache)  # so that clips are decoded once
    return Evaluate(model, capsys)


def test_evaluate_gives_figures_and_marks_seen_speakers(
    evaluate: Evaluate, ravdess: str, tmp_path: Path
) -> None:
    result = evaluate("--corpus", "ravdess", "--root", ravdess, "--report", str(tmp_path / "out"))
    for name in ("uar", "accuracy", "macro_f1"):
        figure = result[name]
        assert 0 <= figure["value"] <= 1
        assert figure["low"] is figure["high"] is None  # four speakers are too few to draw from
    assert result["n"] == 128 and result["classes"] == list(RAVDESS)
    assert sorted(result["recall"]) == sorted(RAVDESS)
    assert result["split"] == "all clips" and result["interval_unit"] == "speaker"
    assert result["seen_speakers"] == ["ravdess/01"] and result["marks"] == ["SEEN SPEAKERS"]
    marked = {name: row["marks"] for name, row in result["per_speaker"].items()}
    assert marked == {
        "ravdess/01": ["SEEN SPEAKERS"],
        "ravdess/02": [],
        "ravdess/03": [],
        "ravdess/07": [],
    }
    assert result["per_sex"]["male"]["marks"] == ["SEEN SPEAKERS"]
    assert result["per_sex"]["female"]["marks"] == []
    assert (result["model"], result["seeds"]) == ("tiny", [3])
    figures = [line for line in evaluate.table.splitlines() if line.startswith(("│ UAR", "│ Acc"))]
    assert figures and all("SEEN SPEAKERS" in line for line in figures)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == result
    assert "SEEN SPEAKERS" in (tmp_path / "out" / "report.html").read_text()


def test_evaluate_on_unseen_or_on_chosen_speakers(evaluate: Evaluate, ravdess: str) -> None:
    words = ("--corpus", "ravdess", "--root", ravdess)
    unseen = evaluate(*words, "--unseen-only")
    assert unseen["n"] == 96 and unseen["marks"] == [] and unseen["seen_speakers"] == []
    two = evaluate(*words, "--speakers", "02,ravdess/03")
    assert sorted(two["per_speaker"]) == ["ravdess/02", "ravdess/03"]
    assert two["split"] == "speakers 02,ravdess/03"
    assert "did you mean" in evaluate.sentence(*words, "--speakers", "ravdess/9")
    assert "0 clips" in evaluate.sentence(*words, "--speakers", "01", "--unseen-only")


def test_evaluate_on_a_copy_of_a_known_recording_marks_its_speaker(
    evaluate: Evaluate, ravdess: str, tmp_path: Path
) -> None:
    from avser.data.audio_cache import prepare
    from avser.datamodules.corpora.ravdess import Ravdess

    clips = Ravdess(ravdess).clips()
    digest = prepare([c for c in clips if c.speaker == "ravdess/02"]).waves.digests[0]
    known = Provenance(corpora=["other"], speakers=["other/x"], digests=[digest[:16]])
    evaluate.model = str(tiny_bundle(tmp_path / "tiny", RAVDESS, provenance=known))
    result = evaluate("--corpus", "ravdess", "--root", ravdess)
    assert result["seen_speakers"] == ["ravdess/02"]


def test_evaluate_takes_the_test_part_of_a_configuration(evaluate: Evaluate, ravdess: str) -> None:
    words = ("-c", "configs/data/ravdess.yaml", "--root", ravdess)
    words += ("--data.split.init_args.folds=2",)
    result = evaluate(*words)
    assert result["n"] == 64 and len(result["per_speaker"]) == 2
    assert result["split"] == "speaker_kfold, fold 1 of 2, test part"
    assert evaluate(*words, "--split", "all")["n"] == 128
    for wrong in ([*words, "--corpus", "ravdess"], []):
        with pytest.raises(SystemExit) as end:
            main(["evaluate", *wrong])
        assert end.value.code == 2


def test_evaluate_on_other_classes_says_which_are_left_out(
    evaluate: Evaluate, savee: str, tmp_path: Path
) -> None:
    result = evaluate("--corpus", "savee", "--root", savee)
    assert set(result["classes"]) == set(RAVDESS) - {"calm"}
    assert any("calm" in note and "not in the corpus" in note for note in result["notes"])
    few = tiny_bundle(tmp_path / "few", ("happy", "sad", "bored"))
    evaluate.model = str(few)
    result = evaluate("--corpus", "savee", "--root", savee)
    assert result["classes"] == ["happy", "sad"] and result["n"] == 4
    left = next(note for note in result["notes"] if "the model does not have" in note)
    assert "angry" in left and "neutral" in left
    evaluate.model = str(tiny_bundle(tmp_path / "none", ("bored", "excited")))
    assert "share fewer than two" in evaluate.sentence("--corpus", "savee", "--root", savee)


def test_evaluate_lists_corpora(evaluate: Evaluate) -> None:
    message = evaluate.sentence("--corpus", "ravdes")
    assert "Bad corpus 'ravdes'" in message and "did you mean 'ravdess'" in message


def test_evaluate_measures_degraded_clips(
    ravdess: str,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = {name: CONDITIONS[name] for name in ("telephone", "white noise 10 dB")}
    monkeypatch.setattr("avser.evaluation.stress.CONDITIONS", chosen)
    words = ["-c", "configs/data/ravdess.yaml", "--root", ravdess, "--model", model, "--stress"]
    folds = "--data.split.init_args.folds=2"
    assert main(["evaluate", *words, folds, "--report", str(tmp_path)]) == 0
    message = capsys.readouterr().out
    rows = [line for line in message.splitlines() if "telephone" in line]
    assert len(rows) == 1
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["stress"]) == ["clean", *chosen]
    assert results["stress"]["clean"]["uar"] == results["uar"]
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Stress</h2>" in page and "white noise 10 dB" in page


# -- crossval ------------------------------------------------------------------------------------


def times(out: Path) -> dict[str, int]:
    return {
        str(p.relative_to(out)): p.stat().st_mtime_ns
        for fold in sorted(out.glob("seed*/fold*"))
        for p in sorted(fold.rglob("*"))
        if p.is_file()
    }


def test_crossval_trains_merges_and_skips_what_is_done(
    ravdess: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, rows = tmp_path / "cv", tmp_path / "rows.json"
    words = ["crossval", "-c", "configs/data/ravdess.yaml", "-c", config, "--root", ravdess]
    words += ["--folds", "2", "--data.split.init_args.validation_speakers=1"]
    words += ["--out", str(out), "--name", "tiny", "--row", str(rows), "--json", "-"]

    assert main([*words, "--fold", "0"]) == 0  # on one machine
    first = json.loads(capsys.readouterr().out)
    assert first["n"] == 64 and any("UNFINISHED: 1 of 2" in note for note in first["notes"])
    assert first["split"] == "speaker_kfold, 2 folds, 1 of 2 trained"
    after_first = times(out)
    assert {name.split("/")[1] for name in after_first} == {"fold0"}

    assert main(words) == 0  # on all that was collected
    result = json.loads(capsys.readouterr().out)
    assert result["n"] == 128 and len(result["per_speaker"]) == 4
    assert not any("UNFINISHED" in note for note in result["notes"])
    assert (result["model"], result["seeds"], result["marks"]) == ("tiny", [0], [])
    assert json.loads((out / "results.json").read_text()) == result
    assert "<html" in (out / "report.html").read_text()
    assert [(r["seed"], r["fold"]) for r in json.loads(rows.read_text())] == [(0, 0), (0, 1)]
    after_all = times(out)
    assert {k: v for k, v in after_all.items() if "/fold0/" in k} == after_first

    assert main(words) == 0  # once more: nothing is trained
    assert json.loads(capsys.readouterr().out) == result
    assert times(out) == after_all


def test_crossval_joins_the_stress_tables_of_its_folds(
    ravdess: str, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "avser.evaluation.stress.CONDITIONS", {"offset 0.005": CONDITIONS["offset 0.005"]}
    )
    words = ["-c", "configs/data/ravdess.yaml", "-c", config, "--root", ravdess, "--stress"]
    folds = ["--data.split.init_args.folds=2", "--data.split.init_args.validation_speakers=1"]
    for fold in (0, 1):
        run = ["--out", str(tmp_path / f"seed0/fold{fold}"), f"--data.split.init_args.fold={fold}"]
        assert main(["fit", *words, *folds, *run]) == 0
    assert main(["crossval", *words, *folds, "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "results.json").read_text())
    assert list(result["stress"]) == ["clean", "offset 0.005"]
    assert result["stress"]["clean"]["uar"] == result["uar"]
    card = (tmp_path / "seed0/fold0/bundle/README.md").read_text()
    assert "| offset 0.005 |" in card


def test_crossval_with_a_failing_fold_is_one_sentence(
    ravdess: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-c", "configs/data/ravdess.yaml", "-c", config, "--root", ravdess, "--folds", "2"]
    words += ["--fold", "1", "--out", str(tmp_path / "cv")]
    assert main(["crossval", *words, "--model.ema=2"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "(1 of 1 failed)" in message and "Bad ema 2.0" in message
    assert main(["crossval", *words[:-3], "2", "--out", str(tmp_path / "cv")]) == 1
    assert "Bad fold 2" in capsys.readouterr().err


def test_folds_of_a_protocol_without_them(
    ravdess: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-c", "configs/data/ravdess.yaml", "-c", config, "--root", ravdess, "--folds", "2"]
    words += ["--data.split=avser.data.splits.RandomSplit", "--out", str(tmp_path / "cv")]
    assert main(["crossval", *words]) == 1
    assert capsys.readouterr().err.count("\n") == 1
