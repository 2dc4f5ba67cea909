"""`avser combine`: ensembles and late fusion of what trainings kept."""

import json
from pathlib import Path

import numpy as np
import pytest

from avser.cli import main
from avser.evaluation.predictions import Predictions
from avser.evaluation.summary import summarise

SHARES = {  # of "happy", for two happy clips and two sad ones
    "sure": [0.9, 0.4, 0.2, 0.1],
    "other": [0.3, 0.9, 0.2, 0.3],
}


def trained(
    folder: Path,
    *,
    clips: slice,
    stem: str = "test",
    shares: str = "sure",
    split: str = "leave one out",
    seed: int = 0,
    commit: str | None = None,
) -> None:
    """A finished training that was tested on some of four clips."""
    happy = np.array(SHARES[shares])[clips]
    result = Predictions(
        clip_ids=["a", "b", "c", "d"][clips],
        speakers=["s1", "s1", "s2", "s2"][clips],
        sexes=["female"] * 2,
        labels=np.array([0, 0, 1, 1])[clips],
        probabilities=np.stack([happy, 1 - happy], axis=1),
        emotions=("happy", "sad"),
        seen=[False] * 2,
    )
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    result.save(folder / "predictions" / f"{stem}.json")
    recorded = {"split": split, "corpus": "tiny", "label_target": "acted", "model": "m"}
    more = {"split_hash": str(clips.start), "parameters": 10, "seeds": [seed], "epochs": [3]}
    summary = summarise(result, **recorded, **more, commit=commit)  # type: ignore[arg-type]
    (folder / "results.json").write_text(json.dumps(summary))
    (folder / "DONE").touch()


def validated(
    root: Path,
    *,
    seed: int = 0,
    stem: str = "test",
    shares: str = "sure",
    commit: str | None = None,
) -> Path:
    """A cross-validation of two folds."""
    for fold in (0, 1):
        clips = slice(2 * fold, 2 * fold + 2)
        trained(
            root / f"seed{seed}" / f"fold{fold}",
            clips=clips,
            stem=stem,
            shares=shares,
            split=f"speaker_kfold, fold {fold + 1} of 2",
            seed=seed,
            commit=commit,
        )
    return root


def combined(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main(["combine", *words, "--json", "-"]) == 0
    result: dict[str, object] = json.loads(capsys.readouterr().out)
    return result


def test_every_seed_is_a_member(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = validated(validated(tmp_path / "voice"), seed=1, shares="other")
    result = combined(capsys, str(run))
    assert result["uar"]["value"] == 1.0  # type: ignore[index]
    assert result["n"] == 4
    assert result["parameters"] == 20
    assert result["notes"][:3] == [  # type: ignore[index]
        "the mean of 2 members",
        "voice seed0 alone: UAR .750",
        "voice seed1 alone: UAR .750",
    ]


def test_split_seed_and_commit_are_those_of_all_members(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = validated(tmp_path / "voice", commit="abc")
    face = validated(tmp_path / "face", shares="other", commit="abc")
    result = combined(capsys, str(voice), str(face))
    assert (result["split"], result["seeds"]) == ("speaker_kfold, 2 folds", [0])
    assert result["commit"] == "abc"
    fold = combined(capsys, str(voice / "seed0" / "fold1"))
    assert fold["split"] == "speaker_kfold, fold 2 of 2"
    other = validated(tmp_path / "other", seed=1, shares="other", commit="def")
    result = combined(capsys, str(voice), str(other))
    assert (result["seeds"], result["commit"]) == ([], None)


def test_streams_of_one_model_are_fused_late(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = validated(tmp_path / "av")
    validated(run, stem="test.audio")
    validated(run, stem="test.video", shares="other")
    result = combined(capsys, f"{run}:audio", f"{run}:video", "--rule", "product")
    assert result["parameters"] == 10  # one model's heads
    assert result["uar"]["value"] == 1.0  # type: ignore[index]
    assert "av seed0, video alone: UAR .750" in result["notes"]  # type: ignore[operator]


def test_the_product_is_that_of_each_clips_shares() -> None:
    def answers(happy: float) -> Predictions:
        return Predictions(
            clip_ids=["a"],
            speakers=["s"],
            sexes=[""],
            labels=np.array([0]),
            probabilities=np.array([[happy, 1 - happy]]),
            emotions=("happy", "sad"),
            seen=[False],
        )

    joined = Predictions.mean([answers(0.9), answers(0.3)], rule="product")
    np.testing.assert_allclose(joined.probabilities[0, 0], 0.27 / (0.27 + 0.07), rtol=1e-5)
    never = Predictions.mean([answers(1.0), answers(0.0)], rule="product")
    np.testing.assert_allclose(never.probabilities[0], [0.5, 0.5], rtol=1e-5)


def test_single_trainings_are_taken_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        trained(tmp_path / name, clips=slice(0, 2), shares="sure" if name == "one" else "other")
    result = combined(capsys, str(tmp_path / "one"), str(tmp_path / "two"), "--name", "both")
    assert result["model"] == "both"
    assert result["n"] == 2
    fold = validated(tmp_path / "voice") / "seed0" / "fold0"
    assert "voice seed0 fold0 alone: UAR .500" in combined(capsys, str(fold))["notes"]  # type: ignore[operator]


def test_what_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = validated(tmp_path / "voice")
    (run / "seed0" / "fold1" / "DONE").unlink()
    assert main(["combine", str(run)]) == 1
    assert "not finished" in capsys.readouterr().err
    (run / "seed0" / "fold1" / "DONE").touch()
    assert main(["combine", f"{run}:video"]) == 1
    assert "kept no test.video.json" in capsys.readouterr().err
    trained(tmp_path / "one", clips=slice(0, 2))
    assert main(["combine", str(run), str(tmp_path / "one")]) == 1
    assert "Bad ensemble" in capsys.readouterr().err
