"""Random search: what is drawn, what is kept, what is chosen."""

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from avser.cli import main
from avser.errors import AvserError, ConfigError
from avser.evaluation.predictions import Predictions
from avser.testing.corpora.ravdess import fake_ravdess
from avser.training import search
from avser.training.search import Choice, Range, Space, Trial, draw, read_space

SPACE: Space = {"model.lr": Range(1e-4, 1e-1, log=True), "data.batch_size": Choice((4, 8, 16))}


def test_ranges_are_drawn_within_their_ends() -> None:
    rng = np.random.default_rng(0)
    even = [Range(-1.0, 3.0).draw(rng) for _ in range(400)]
    assert min(even) < -0.9 and max(even) > 2.9 and abs(np.mean(even) - 1) < 0.2
    powers = [math.log10(Range(1e-4, 1.0, log=True).draw(rng)) for _ in range(400)]
    assert -4 <= min(powers) < -3.9 and -0.1 < max(powers) <= 0
    assert abs(np.mean(powers) + 2) < 0.2
    assert {Range(1, 4, integer=True).draw(rng) for _ in range(100)} == {1, 2, 3, 4}


def test_a_trial_draws_the_same_however_many_there_are() -> None:
    drawn = [draw(SPACE, seed=3, trial=n) for n in range(5)]
    assert drawn[2] == draw(SPACE, seed=3, trial=2)
    assert len({d["model.lr"] for d in drawn}) == 5
    assert draw(SPACE, seed=4, trial=2) != drawn[2]


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

    monkeypatch.setattr(search, "fit_apart", fit)
    return trained


def run(out: Path, *, trials: int = 6, space: Space = SPACE, seed: int = 0) -> list[Trial]:
    return search.run(
        space,
        out=out,
        trials=trials,
        words=["-c", "x"],
        seed=seed,
        jobs=2,
        finished=lambda trial: None,
    )


def test_the_best_on_validation_is_kept(tmp_path: Path, trainings: list[int]) -> None:
    found = run(tmp_path)
    scored = [t for t in found if t.uar is not None]
    assert [t.uar for t in scored] == sorted((t.uar for t in scored), reverse=True)
    best = max(scored, key=lambda t: t.settings["model.lr"])
    assert found[0].uar == best.uar
    assert (tmp_path / "best.yaml").read_text() == f"lr: {found[0].settings['model.lr']}\n"
    failed = [t for t in found if t.uar is None]
    assert failed and all(t.settings["data.batch_size"] == 8 for t in failed)
    assert all(t.problem == "too many" for t in failed) and found[len(scored) :] == failed
    rows = json.loads((tmp_path / "trials.json").read_text())
    assert [r["trial"] for r in rows] == [t.number for t in found]


def test_a_search_goes_on_and_grows(tmp_path: Path, trainings: list[int]) -> None:
    first = run(tmp_path, trials=3)
    done = {t.number for t in first if t.uar is not None}
    trainings.clear()
    again = run(tmp_path, trials=6)
    assert sorted(trainings) == sorted(set(range(6)) - done)
    assert {t.number for t in again} == set(range(6))
    with pytest.raises(ConfigError, match="another space or seed"):
        run(tmp_path, seed=1)
    with pytest.raises(ConfigError, match="another space or seed"):
        run(tmp_path, space={"model.lr": Range(1e-4, 1e-1)})


def test_a_search_in_which_all_fails_says_why(tmp_path: Path, trainings: list[int]) -> None:
    with pytest.raises(AvserError, match="all 2 trials failed; the first says: too many"):
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
    said = capsys.readouterr().out
    assert "trial 0: validation UAR" in said and "best.yaml" in said
    assert not list((tmp_path / "out").rglob("test.json"))
    assert main(["fit", "-c", str(tmp_path / "out/best.yaml"), "--out", str(tmp_path / "run")]) == 0
