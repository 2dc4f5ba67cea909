"""Search: what is suggested, kept, pruned and chosen."""

import json
import math
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import optuna
import pytest

from avser.cli import main
from avser.errors import AvserError, ConfigError, StorageError
from avser.evaluation.predictions import Predictions
from avser.testing.corpora.ravdess import fake_ravdess
from avser.training import search
from avser.training.run_folder import STOP
from avser.training.search import Choice, Range, Space, Trial, read_space

SPACE: Space = {"model.lr": Range(1e-4, 1e-1, log=True), "data.batch_size": Choice((4, 8, 16))}
NO_FAILURE: Space = {**SPACE, "data.batch_size": Choice((4, 16))}


def test_ranges_and_choices_are_suggested() -> None:
    trial = optuna.trial.FixedTrial({"lr": 1e-3, "n": 3, "size": "[8, 8]"})
    assert Range(1e-4, 1.0, log=True).suggest(trial, "lr") == 1e-3
    assert Range(1, 4, integer=True).suggest(trial, "n") == 3
    assert Choice(([4, 4], [8, 8])).suggest(trial, "size") == [8, 8]


def test_a_space_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("model.lr: {low: 0.1, high: 2, log: true}\nmodel.ema: [0.0, 0.9]\n")
    assert read_space(path) == {
        "model.lr": Range(0.1, 2, log=True),
        "model.ema": Choice((0.0, 0.9)),
    }
    for text in (
        "- a",
        "a: []",
        "a: {low: 1}",
        "a: {low: 2, high: 1}",
        "a: {low: 0, high: 1, log: true}",
        "a: {low: 0, high: 1, step: 2}",
        "a: {low: x, high: 1}",
        "a: {",
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"Bad (space|range)"):
            read_space(path)
    with pytest.raises(ConfigError, match="Bad space"):
        read_space(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "path", sorted(Path(str(files("avser.configs"))).glob("search/*.yaml")), ids=lambda p: p.stem
)
def test_spaces_that_are_shipped_can_be_read(path: Path) -> None:
    assert all("." in name for name in read_space(path))


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Trials that were trained; a higher learning rate is better, batches of 8 fail."""
    trained: list[int] = []

    def fit(words: Sequence[str], folder: Path, *, threads: int) -> str | None:
        trained.append(int(folder.name.removeprefix("trial")))
        given = dict(w.removeprefix("--").split("=") for w in words if "=" in w)
        assert "--no-test" in words and "-c" in words
        if given["data.batch_size"] == "8":
            return "too many"
        right = round(10 * (math.log10(float(given["model.lr"])) + 4) / 3)
        labels = np.arange(20) % 2
        guess = np.where(np.arange(20) // 2 < right, labels, 1 - labels)
        Predictions(
            clip_ids=[str(i) for i in range(20)],
            speakers=[""] * 20,
            sexes=[""] * 20,
            labels=labels,
            probabilities=np.eye(2)[guess],
            emotions=("happy", "sad"),
            seen=[False] * 20,
        ).save(folder / "predictions" / "validation.json")
        (folder / "config.yaml").write_text(f"lr: {given['model.lr']}\n")
        (folder / "DONE").write_text("")
        return None

    monkeypatch.setattr(search, "fit_in_process", fit)
    return trained


def run(
    out: Path, *, trials: int = 6, space: Space = SPACE, jobs: int = 1, storage: str | None = None
) -> list[Trial]:
    return search.run(
        space,
        out=out,
        trials=trials,
        words=["-c", "x"],
        seed=0,
        jobs=jobs,
        finished=lambda trial: None,
        storage=storage,
    )


def test_the_best_on_validation_is_kept(tmp_path: Path, trainings: list[int]) -> None:
    result = run(tmp_path, trials=8, jobs=2)
    scored = [t for t in result if t.uar is not None]
    assert [t.uar for t in scored] == sorted((t.uar for t in scored), reverse=True)
    best = max(scored, key=lambda t: t.settings["model.lr"])
    assert result[0].uar == best.uar
    assert (tmp_path / "best.yaml").read_text() == f"lr: {result[0].settings['model.lr']}\n"
    failed = [t for t in result if t.uar is None]
    assert failed and all(t.settings["data.batch_size"] == 8 for t in failed)
    assert all(t.problem == "too many" for t in failed) and result[len(scored) :] == failed
    rows = json.loads((tmp_path / "trials.json").read_text())
    assert [r["trial"] for r in rows] == [t.number for t in result] and len(rows) == 8
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")


def test_a_search_goes_on_and_grows(tmp_path: Path, trainings: list[int]) -> None:
    first = run(tmp_path, trials=3)
    good = {t.number for t in first if t.uar is not None}
    trainings.clear()
    again = run(tmp_path, trials=6)
    assert len(again) == 6 and good <= {t.number for t in again}
    assert not good & set(trainings)  # what failed is tried again, what is finished is not
    with pytest.raises(ConfigError, match="another space"):
        run(tmp_path, space={"model.lr": Range(1e-4, 1e-1)})


def test_an_interrupted_trial_is_done_again_with_its_settings(
    tmp_path: Path, trainings: list[int]
) -> None:
    run(tmp_path, trials=1, space=NO_FAILURE)
    study = optuna.load_study(study_name="avser", storage=f"sqlite:///{tmp_path / 'study.db'}")
    left = study.ask()  # of a process that was killed
    settings = {name: axis.suggest(left, name) for name, axis in NO_FAILURE.items()}
    left.set_user_attr("folder", str(tmp_path / "trial1"))
    trainings.clear()
    result = run(tmp_path, trials=2, space=NO_FAILURE)
    assert trainings == [1] and len(result) == 2
    assert settings in [dict(trial.settings) for trial in result]


def test_two_folders_share_a_study(tmp_path: Path, trainings: list[int]) -> None:
    place = f"sqlite:///{tmp_path / 'shared.db'}"
    run(tmp_path / "a", trials=2, storage=place, space=NO_FAILURE)
    result = run(tmp_path / "b", trials=5, storage=place, space=NO_FAILURE)
    assert len(result) == 5 and len(list((tmp_path / "b").glob("trial?"))) == 3
    assert (tmp_path / "b" / "best.yaml").read_text() == f"lr: {result[0].settings['model.lr']}\n"


def test_a_bad_trial_is_ended_early(
    tmp_path: Path, trainings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = search.fit_in_process

    def fit(words: Sequence[str], folder: Path, *, threads: int) -> str | None:
        bad = folder.name == "trial6"
        folder.mkdir()
        for epoch in range(1, 9):
            curves[folder] = [0.1 if bad else 0.8] * epoch
        while bad and not (folder / STOP).exists():  # as a training would run on
            time.sleep(0.01)
        return train(words, folder, threads=threads)

    curves: dict[Path, list[float]] = {}
    monkeypatch.setattr(search, "fit_in_process", fit)
    monkeypatch.setattr(search, "history", lambda f: {"validation/score": curves.get(f, [])})
    monkeypatch.setattr(search, "_POLL_S", 0.01)
    result = run(tmp_path, trials=7, space=NO_FAILURE)
    assert [t.number for t in result if t.pruned] == [6]


def test_a_database_that_can_not_be_opened_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"^Bad --storage sqlite:////no/such/.*can be opened"):
        run(tmp_path, storage="sqlite:////no/such/folder/x.db")


def test_a_search_in_which_all_fails_says_why(tmp_path: Path, trainings: list[int]) -> None:
    with pytest.raises(AvserError, match="all 2 trials failed; the first: too many"):
        run(tmp_path, trials=2, space={**SPACE, "data.batch_size": Choice((8,))})


@pytest.mark.long
def test_the_command_searches_in_real_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fake_ravdess(tmp_path / "ravdess", speakers=6, per_emotion=2)
    (tmp_path / "space.yaml").write_text(
        "model.head.init_args.baseline.init_args.cost: {low: 0.01, high: 10, log: true}\n"
    )
    words = ["search", "-c", "configs/data/ravdess.yaml", "-c", "configs/model/svm_mfcc.yaml"]
    words += ["--root", str(root), "--space", str(tmp_path / "space.yaml"), "--trials", "2"]
    words += ["--trainer.accelerator=cpu", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "trial 0: validation UAR" in printed
    assert "best.yaml" in "".join(printed.split())  # a long path goes over two lines
    assert not list((tmp_path / "out").rglob("test.json"))
    assert main(["fit", "-c", str(tmp_path / "out/best.yaml"), "--out", str(tmp_path / "run")]) == 0
