"""Several models as one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Provenance
from avser.cli import main
from avser.errors import ConfigError
from avser.evaluation.predictions import Predictions
from avser.inference.classifier import Failure
from avser.inference.ensemble import Ensemble, mean_prediction
from avser.inference.predictor import Predictor
from avser.testing.corpora.savee import fake_savee
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_net, tiny_spec
from avser.types import Prediction, TimelineEntry

CLASSES = ("happy", "sad", "angry")


def model(folder: Path, *, scale: float, speakers: tuple[str, ...] = ()) -> Path:
    """A tiny model whose weights are scaled, so that models differ."""
    net = tiny_net(CLASSES)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(scale)
    known = Provenance(corpora=["savee"], speakers=list(speakers), seed=1, epochs=4)
    return bundle.save(net, folder, spec=tiny_spec(), name=folder.name, provenance=known)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    return [
        str(model(folder / "one", scale=1.5, speakers=("savee/DC",))),
        str(model(folder / "two", scale=-2.0)),
    ]


def predictions(shares: list[list[float]], *, ids: list[str], seen: list[bool]) -> Predictions:
    return Predictions(
        clip_ids=ids,
        speakers=["a", "b"],
        sexes=["", ""],
        labels=np.array([0, 1]),
        probabilities=np.array(shares),
        emotions=("happy", "sad"),
        seen=seen,
    )


def test_outcomes_are_joined_clip_by_clip() -> None:
    first = predictions([[0.6, 0.4], [0.2, 0.8]], ids=["x", "y"], seen=[True, False])
    other = predictions([[1.0, 0.0], [0.0, 1.0]], ids=["y", "x"], seen=[False, False])
    joined = Predictions.mean([first, other])
    assert joined.clip_ids == ["x", "y"] and joined.seen == [True, False]
    np.testing.assert_allclose(joined.probabilities, [[0.3, 0.7], [0.6, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(Predictions.mean([first]).probabilities, first.probabilities)
    with pytest.raises(ConfigError, match="Bad ensemble"):
        Predictions.mean(
            [first, predictions([[1, 0], [1, 0]], ids=["x", "z"], seen=[False, False])]
        )


def test_evaluate_gives_the_mean_of_several_models(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fake_savee(tmp_path / "savee", speakers=2, per_emotion=2)
    words = ["evaluate", "--corpus", "savee", "--root", str(root), "--json", "-"]
    result = {}
    one, two = models
    for name, chosen in (("a", [one]), ("b", [two]), ("ab", models), ("aa", [one, one])):
        assert main([*words, *(w for m in chosen for w in ("--model", m))]) == 0
        result[name] = json.loads(capsys.readouterr().out)
    assert result["ab"]["model"] == "one + two" and result["ab"]["seeds"] == [1]
    assert result["ab"]["parameters"] == 2 * result["a"]["parameters"]
    assert "SEEN SPEAKERS" in result["ab"]["marks"] and result["ab"]["seen_speakers"] == [
        "savee/DC"
    ]
    assert result["aa"]["uar"] == result["a"]["uar"] and result["aa"]["ece"] == result["a"]["ece"]
    assert result["ab"]["ece"] not in (result["a"]["ece"], result["b"]["ece"])


def test_classify_gives_the_mean_of_several_models(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wav = write_wav(tmp_path / "a.wav", voice("happy", seconds=1.3))
    (tmp_path / "b.wav").write_text("no sound")
    result = []
    for chosen in (models[:1], models[1:], models):
        words = [w for m in chosen for w in ("--model", m)]
        main(["classify", str(wav), str(tmp_path / "b.wav"), *words, "--json", "-", "--quiet"])
        result.append(json.loads(capsys.readouterr().out))
    one, two, both = (rows[0] for rows in result)
    for name in CLASSES:
        mean = (one["probabilities"][name] + two["probabilities"][name]) / 2
        assert both["probabilities"][name] == pytest.approx(mean, abs=1e-5)
        a, b, step = (row["timeline"][1]["probabilities"][name] for row in (one, two, both))
        assert step == pytest.approx((a + b) / 2, abs=1e-5)
    assert both["model"] == "one + two" and both["label"] in CLASSES
    assert "error" in result[2][1]


def test_models_of_other_classes_are_refused() -> None:
    predictors = [Predictor(tiny_net(names), device="cpu") for names in (CLASSES, CLASSES[:2])]
    with pytest.raises(ConfigError, match="different classes"):
        Ensemble(predictors)


def answer(shares: dict[str, float] | None, *, model: str) -> Prediction:
    label = None if shares is None else max(shares, key=lambda n: shares[n])
    return Prediction(
        label=label,
        probabilities=shares,
        modalities=() if shares is None else ("audio",),
        reason="no_signal" if shares is None else None,
        duration_s=0.5,
        timeline=(TimelineEntry(start_s=0, end_s=0.5, label=label, probabilities=shares),),
        model=model,
    )


def test_a_model_without_an_answer_has_no_say() -> None:
    shares = {"happy": 0.3, "sad": 0.7}
    joined = mean_prediction([answer(None, model="a"), answer(shares, model="b")])
    assert joined.probabilities == shares and joined.label == "sad"
    assert joined.modalities == ("audio",) and joined.reason is None and joined.model == "a + b"
    assert joined.timeline[0].label == "sad"
    nothing = mean_prediction([answer(None, model="a"), answer(None, model="b")])
    assert nothing.label is None and nothing.probabilities is None
    assert nothing.reason == "no_signal" and nothing.timeline[0].probabilities is None


def test_a_file_fails_where_a_model_fails(models: list[str], tmp_path: Path) -> None:
    (tmp_path / "b.wav").write_text("no sound")
    both = Ensemble([Predictor.from_pretrained(m, device="cpu") for m in models])
    (result,) = both.classify([tmp_path / "b.wav"])
    assert isinstance(result, Failure)
