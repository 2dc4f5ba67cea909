"""The systems of "Convoluting Feelings" from start to end, on fakes of its three corpora."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.data import face_cache
from avser.media.faces import Detection
from avser.testing.corpora.emodb import fake_emodb
from avser.testing.corpora.enterface import fake_enterface
from avser.testing.corpora.savee import fake_savee

pytestmark = pytest.mark.long

SYSTEM = "configs/systems/convoluting_feelings"
BRIEF = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--data.batch_size=16"]
TINY = ["--model.audio.init_args.channels=[8]"]


class WholePicture:
    """A stand-in for a detector, which drawn faces would not pass: the face is the picture."""

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        high, wide = image.shape[:2]
        spots = np.array([[0.35, 0.4], [0.65, 0.4], [0.5, 0.6], [0.38, 0.75], [0.62, 0.75]])
        box = (0.1 * wide, 0.05 * high, 0.8 * wide, 0.9 * high)
        return [Detection(box, 0.99, spots * np.array([wide, high]))]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def corpora(tmp_path_factory: pytest.TempPathFactory, runs: Path, monkeypatch: Any) -> None:
    root = runs / "data"
    if not root.exists():
        fake_emodb(root / "emodb", speakers=4, per_emotion=2)
        fake_savee(root / "savee", speakers=4, per_emotion=2)
        fake_enterface(root / "enterface", speakers=6, per_emotion=2)
    monkeypatch.setenv("AVSER_DATA", str(root))
    monkeypatch.setenv("AVSER_CACHE", str(runs / "cache"))
    find = face_cache.load_clip

    def seen(path: Path, **settings: Any) -> Any:
        return find(path, **{**settings, "detector": WholePicture()})

    monkeypatch.setattr(face_cache, "load_clip", seen)


def fit(out: Path, data: str, model: str, *words: str) -> dict[str, Any]:
    names = [w if "/" in w else f"{SYSTEM}/{w}.yaml" for w in (data, model)]
    command = ["fit", "-c", names[0], "-c", names[1], *BRIEF, *words, "--out", str(out)]
    assert main(command) == 0
    result: dict[str, Any] = json.loads((out / "results.json").read_text())
    return result


def test_nets_then_classifiers_on_their_scores_then_an_ensemble(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = fit(runs / "r1", "random_chunks_all", "r1", *TINY)
    assert one["marks"][0] == "RANDOM SPLIT" and list(one["levels"]) == ["clip"]
    assert one["split"] == "random, by chunk" and len(one["classes"]) == 7
    init = f"--model.init={{audio: {runs / 'r1'}}}"
    scores = fit(runs / "lda", "random_chunks_all", "scores_lda", *TINY, init)
    assert scores["split_hash"] == one["split_hash"] and scores["n"] == one["n"]
    trained, fitted = (bundle.load(runs / name).net for name in ("r1", "lda"))
    head = fitted.heads["audio"]
    assert (head.scores.step.weight == trained.heads["audio"].step.weight).all()  # type: ignore
    other = [f"--data.split.init_args.seed={1}", init]
    words = ["-c", f"{SYSTEM}/random_chunks_all.yaml", "-c", f"{SYSTEM}/scores_lda.yaml", *TINY]
    assert main(["fit", *words, *other, "--out", str(runs / "no")]) == 1
    assert "start from a model of the same split" in capsys.readouterr().err

    fit(runs / "r3", "random_chunks_all", "r3")
    capsys.readouterr()
    words = ["evaluate", "-c", f"{SYSTEM}/random_chunks_all.yaml", "--json", "-"]
    assert main([*words, "--model", str(runs / "r1"), "--model", str(runs / "r3")]) == 0
    both = json.loads(capsys.readouterr().out)
    assert both["model"] == "r1 + r3" and both["n"] == one["n"]
    assert both["marks"][0] == "RANDOM SPLIT" and "clip" in both["levels"]


def test_an_lstm_begins_with_a_net_of_chunks(runs: Path) -> None:
    whole = fit(runs / "r1c", "random_clips", "r1", *TINY, "--model.step_loss=1")
    assert list(whole["levels"]) == ["chunk"]
    init = f"--model.init={{audio: {runs / 'r1c'}}}"
    for model in ("lstm_features", "bilstm_features"):
        fit(runs / model, "random_clips", model, *TINY, init)
    fit(runs / "lstm_chunks", "random_clips", "lstm_chunks")


@pytest.mark.parametrize("model", ["faces_softmax", "faces_mlp2", "faces_cnn"])
def test_faces_of_five_frames(runs: Path, model: str) -> None:
    words = ["--model.video.init_args.size=32"]
    if model == "faces_cnn":
        words += ["--model.video.init_args.pretrained=false"]
        words += ["--model.video.init_args.backbone=test_efficientnet"]
    result = fit(runs / model, "random_faces", model, *words)
    assert result["corpus"] == "enterface" and len(result["classes"]) == 6
    assert result["marks"][0] == "RANDOM SPLIT"


def test_both_streams_into_one_lstm(runs: Path) -> None:
    words = ["--data.video=faces", *TINY, "--model.init={}"]
    result = fit(runs / "av", "configs/data/enterface.yaml", "configs/model/av_lrcn.yaml", *words)
    assert result["marks"] == [] and set(result["streams"]) == {"audio", "video"}
