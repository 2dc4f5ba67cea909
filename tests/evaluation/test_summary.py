import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from avser.errors import ConfigError, SplitError
from avser.evaluation import metrics
from avser.evaluation.numbers import format_figure
from avser.evaluation.summary import ENROLLED, Predictions, summarise
from avser.evaluation.tables import print_table

EMOTIONS = ("neutral", "happy", "sad", "angry")


def make(
    *,
    speakers: int = 6,
    each: int = 8,
    seed: int = 0,
    seen: tuple[int, ...] = (),
    prefix: str = "x",
) -> Predictions:
    """Speaker 0 is known by heart, the others are told right more often than not."""
    rng = np.random.default_rng(seed)
    size = speakers * each
    who = np.repeat(np.arange(speakers), each)
    labels = np.arange(size) % 4
    probabilities = rng.dirichlet(np.ones(4), size) * 0.5
    probabilities[np.arange(size), labels] += np.where(who == 0, 0.5, rng.choice([0.0, 0.5], size))
    probabilities /= probabilities.sum(1, keepdims=True)
    return Predictions(
        clip_ids=[f"{prefix}/{i}" for i in range(size)],
        speakers=[f"{prefix}/{s:02d}" for s in who],
        sexes=["female" if s % 2 else "male" for s in who],
        labels=labels,
        probabilities=probabilities,
        emotions=EMOTIONS,
        seen=[int(s) in seen for s in who],
    )


def facts(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "split": "speaker_kfold, 5 folds",
        "corpus": "tiny",
        "label_target": "acted",
        "split_hash": "1a2b3c4d",
        "model": "lrcn",
        "parameters": 1234567,
        "seeds": [0],
        "epochs": [12],
        "commit": "abc1234",
    }
    return {**given, **changes}


def printed(summary: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_table(summary, console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_outcomes_come_back_as_they_were_written(tmp_path: Path) -> None:
    before = make(seen=(2,))
    before.save(tmp_path / "predictions.json")
    after = Predictions.load(tmp_path / "predictions.json")
    np.testing.assert_array_equal(after.probabilities, before.probabilities)
    np.testing.assert_array_equal(after.labels, before.labels)
    for name in ("clip_ids", "speakers", "sexes", "emotions", "seen"):
        assert getattr(after, name) == getattr(before, name)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4).filter(lambda p: sum(p) > 0.01))
def test_probabilities_keep_every_digit(
    tmp_path_factory: pytest.TempPathFactory, row: list[float]
) -> None:
    one = make(speakers=1, each=1)
    one = replace(one, probabilities=np.array([row]) / sum(row))
    path = tmp_path_factory.mktemp("predictions") / "one.json"
    one.save(path)
    assert Predictions.load(path).probabilities.tobytes() == one.probabilities.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speakers": ["a"]}, "48 clips: .* 1, 48"),
        ({"clip_ids": ["same"] * 48}, "'same' is there twice"),
        ({"labels": np.full(48, 4)}, "expected 0 to 3"),
        ({"labels": np.full(48, -1)}, "drop clips without a label"),
        ({"probabilities": np.full((48, 4), np.nan)}, "Bad probabilities of clip 'x/0'"),
        ({"probabilities": np.full((48, 4), 0.5)}, "sum to 1"),
    ],
)
def test_outcomes_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(make(), **change)


@pytest.mark.parametrize("text", ["", "[]", '{"emotions": ["sad"], "clips": [{"clip_id": "a"}]}'])
def test_files_of_another_kind_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ConfigError, match=r"other\.json"):
        Predictions.load(tmp_path / "other.json")
    with pytest.raises(ConfigError, match=r"none\.json"):
        Predictions.load(tmp_path / "none.json")


def test_folds_join_and_no_clip_is_tested_twice() -> None:
    a, b = make(prefix="a"), make(prefix="b", seed=1)
    both = Predictions.merge([a, b])
    assert len(both) == len(a) + len(b)
    assert list(both.clip_ids[len(a) :]) == list(b.clip_ids)
    with pytest.raises(ConfigError, match="'a/0' is there twice"):
        Predictions.merge([a, a])
    with pytest.raises(ConfigError, match="2 different sets"):
        Predictions.merge([a, replace(b, emotions=("neutral", "happy", "sad", "calm"))])


def test_unseen_drops_the_clips_of_seen_speakers() -> None:
    left = make(seen=(0, 3)).unseen()
    assert sorted(set(left.speakers)) == ["x/01", "x/02", "x/04", "x/05"]
    assert len(left) == 32


def test_summary_is_json_and_right() -> None:
    predictions = make()
    summary = summarise(predictions, **facts(notes=["a note"]))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert next(iter(summary)) == "uar"
    uar = metrics.uar(predictions.labels, predictions.predicted, 4)
    assert summary["uar"]["value"] == pytest.approx(uar, abs=1e-6)
    assert summary["uar"]["low"] < uar < summary["uar"]["high"]
    assert summary["n"] == 48
    assert summary["per_speaker"]["x/00"] == {"uar": 1.0, "n": 8, "marks": []}
    assert summary["per_sex"]["male"]["speakers"] == 3
    assert summary["support"] == dict.fromkeys(EMOTIONS, 12)
    assert np.mean(list(summary["recall"].values())) == pytest.approx(uar, abs=1e-6)
    assert np.sum(summary["confusion"]) == 48
    assert (summary["interval_unit"], summary["marks"]) == ("speaker", [])
    assert summary["notes"] == ["a note"]


def test_class_without_clips_has_no_recall() -> None:
    predictions = make()
    summary = summarise(predictions.where(predictions.labels != 2), **facts())
    assert summary["recall"]["sad"] is None
    assert summary["support"]["sad"] == 0


def test_several_seeds_are_averaged() -> None:
    runs = [make(seed=seed) for seed in range(3)]
    summary = summarise(runs, **facts(seeds=[0, 1, 2], epochs=[9, 8, 7]))
    each = [metrics.uar(run.labels, run.predicted, 4) for run in runs]
    assert summary["uar"]["per_seed"] == pytest.approx(each, abs=1e-6)
    assert summary["uar"]["value"] == pytest.approx(np.mean(each), abs=1e-6)
    assert summary["n"] == 48
    assert summary["support"]["happy"] == 12
    assert summary["per_speaker"]["x/03"]["n"] == 8
    text = printed(summary)
    assert "UAR, seed 2" in text
    with pytest.raises(ConfigError, match="one predictions a seed"):
        summarise(runs, **facts(seeds=[0]))


def test_unknown_speakers_give_an_interval_by_clip() -> None:
    predictions = replace(make(), speakers=[""] * 48)
    summary = summarise(predictions, **facts())
    assert summary["interval_unit"] == "clip"
    assert summary["per_speaker"] == {}
    assert summary["uar"]["low"] is not None
    assert "bootstrap by clip" in printed(summary)


def test_some_unknown_speakers_are_reported() -> None:
    predictions = make()
    summary = summarise(
        replace(predictions, speakers=["", "", *predictions.speakers[2:]]), **facts()
    )
    assert summary["interval_unit"] == "speaker"
    assert summary["notes"] == ["2 clips of unknown speakers count as a speaker each."]


def test_clips_without_a_prediction_are_noted() -> None:
    predictions = make()
    predictions.probabilities[3:5] = 0.25
    (note,) = summarise(predictions, **facts())["notes"]
    assert note == f"2 of 48 clips have no prediction (no signal) and count as {EMOTIONS[0]}."


def test_one_speaker_has_a_figure_without_interval() -> None:
    summary = summarise(make(speakers=1), **facts())
    assert summary["uar"]["value"] == 1.0
    assert summary["uar"]["low"] is None
    assert "1.000 │" in printed(summary)


@pytest.mark.parametrize(
    ("split", "mark"),
    [
        ("random, 5 folds", "RANDOM SPLIT"),
        ("resubstitution", "ON TRAINING DATA"),
        ("speaker_kfold", None),
        ("held_out, random mood", None),
    ],
)
def test_protocols_are_marked(split: str, mark: str | None) -> None:
    summary = summarise(make(), **facts(split=split))
    assert summary["marks"] == ([mark] if mark else [])
    assert all(row["marks"] == summary["marks"] for row in summary["per_speaker"].values())


def test_every_line_with_seen_speakers_is_marked() -> None:
    summary = summarise(make(seen=(2,)), **facts(marks=[ENROLLED]))
    assert summary["marks"] == ["ENROLLED", "SEEN SPEAKERS"]
    assert summary["seen_speakers"] == ["x/02"]
    assert summary["per_speaker"]["x/02"]["marks"] == ["ENROLLED", "SEEN SPEAKERS"]
    assert summary["per_speaker"]["x/03"]["marks"] == ["ENROLLED"]
    assert summary["per_sex"]["male"]["marks"] == ["ENROLLED", "SEEN SPEAKERS"]
    assert summary["per_sex"]["female"]["marks"] == ["ENROLLED"]
    lines = printed(summary).splitlines()
    for name in ("UAR", "Accuracy", "Macro-F1", "ECE", "male", "happy"):
        line = next(line for line in lines if line.startswith(f"│ {name} "))
        assert "SEEN SPEAKERS" in line
    assert "SEEN" not in next(line for line in lines if line.startswith("│ female"))


def test_table_states_where_its_figures_are_from() -> None:
    text = printed(summarise(make(), **facts(notes=["[bold]as it is[/bold]"])))
    for word in (
        "tiny",
        "4: neutral, happy, sad, angry",
        "acted",
        "1a2b3c4d",
        "1,234,567 parameters",
        "Seeds",
        "Epochs run    12",
        "abc1234",
        "48 of 6 speakers",
        "bootstrap by speaker",
        "[bold]as it is[/bold]",
    ):
        assert word in " ".join(text.split()) or word in text
    assert text.index("UAR") < text.index("Accuracy") < text.index("Macro-F1")


def test_no_test_part_no_test_figure() -> None:
    nothing = make().where(np.zeros(48, dtype=bool))
    with pytest.raises(SplitError, match="0 clips"):
        summarise(nothing, **facts())
    with pytest.raises(SplitError, match="0 clips"):
        summarise([], **facts(seeds=[]))


def test_figures_have_three_decimals() -> None:
    assert format_figure(0.5) == ".500"
    assert format_figure({"value": 1.0, "low": None, "high": None}) == "1.000"


def test_import_is_light() -> None:
    code = (
        "import sys, avser.evaluation.summary as e;"
        "print(sorted({'matplotlib', 'pytorch_lightning', 'torch', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_tested_on_different_clips_are_no_ensemble() -> None:
    runs = [
        Predictions(
            clip_ids=ids,
            speakers=["s", "s"],
            sexes=["", ""],
            labels=np.array([0, 1]),
            probabilities=np.full((2, 2), 0.5),
            emotions=("sad", "angry"),
            seen=[False, False],
        )
        for ids in (["x/a", "x/b"], ["x/b", "x/c"])
    ]
    with pytest.raises(ConfigError, match=r"different clips \(2 and 2, 1 in both.* x/a\)"):
        Predictions.mean(runs)
