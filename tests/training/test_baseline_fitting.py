"""Baselines through the same commands as the nets."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.errors import ConfigError
from avser.evaluation.predictions import Predictions
from avser.models.baselines.head import BaselineHead
from avser.models.baselines.linear import Lda
from avser.models.encoders.pooled import PooledEncoder
from avser.models.frontends.mfcc import Mfcc
from avser.models.net import EmotionNet
from avser.testing.corpora import FAKES
from avser.testing.nets import MeanFusion, VectorVideoEncoder, tiny_net
from avser.training.baselines import fit_baselines, has_baseline
from avser.types import Batch, audio_batch

STEP = 8192


def tones() -> Batch:
    """Clips whose class is their pitch."""
    label = torch.arange(3).repeat(6)
    time = torch.arange(2 * STEP) / 16_000
    wave = 0.2 * torch.sin(6.283 * (300 * (1 + label[:, None])) * time)
    wave = wave + 0.01 * torch.randn_like(wave)
    wave[-1] = 0  # and one that is silent
    batch = audio_batch(wave, torch.full((18,), 2 * STEP))
    batch["label"] = label
    return batch


@pytest.mark.parametrize("unit", ["clip", "step"])
def test_a_net_is_fitted_in_one_pass(unit: str) -> None:
    span = "step" if unit == "step" else "clip"
    net = EmotionNet(
        audio=PooledEncoder(frontend=Mfcc(), span=span),
        head=BaselineHead(baseline=Lda(), unit=unit),
        emotions=("a", "b", "c"),
    )
    batch = tones()
    assert has_baseline(net) and not has_baseline(tiny_net())
    fit_baselines(net, [batch])
    answer = net.predict(net(batch))
    assert answer.probabilities[:-1].argmax(dim=1).tolist() == batch["label"][:-1].tolist()
    assert answer.used[-1] == -1


def test_a_fusion_is_refused() -> None:
    net = EmotionNet(
        audio=PooledEncoder(frontend=Mfcc()),
        video=VectorVideoEncoder(features=3),
        fusion=MeanFusion(),
        head=BaselineHead(baseline=Lda()),
        emotions=("a", "b", "c"),
    )
    with pytest.raises(ConfigError, match="trains no fusion"):
        fit_baselines(net, [tones()])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    FAKES["ravdess"](root / "ravdess", speakers=6, per_emotion=2)
    return root


WORDS = ["-c", "configs/data/ravdess.yaml", "-c", "configs/model/svm_mfcc.yaml"]


def test_every_command_knows_a_baseline(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVSER_DATA", str(data))
    run = tmp_path / "run"
    assert main(["fit", *WORDS, "--out", str(run)]) == 0
    assert {"DONE", "report.html", "results.json", "bundle"} <= {p.name for p in run.iterdir()}
    results = json.loads((run / "results.json").read_text())
    loaded = bundle.load(run)
    size = sum(p.numel() for p in loaded.net.parameters())
    assert results["parameters"] == size > 0  # what it remembers counts as its size
    weights = next((run / "bundle").glob("*.safetensors"))
    assert results["cost"]["bytes"] == weights.stat().st_size
    assert results["cost"]["minutes"] >= 0 and results["cost"]["clips_per_second"] > 0
    assert main(["fit", *WORDS, "--out", str(run)]) == 1  # finished
    assert "it is finished" in capsys.readouterr().err
    recorded = tmp_path / "told.json"
    words = ["evaluate", "--model", str(run), *WORDS[:2], "--json", str(recorded)]
    assert main(words) == 0
    again = json.loads(recorded.read_text())
    assert again["confusion"] == results["confusion"] and again["uar"] == results["uar"]
    clip = next((data / "ravdess").rglob("*.wav"))
    capsys.readouterr()
    assert main(["classify", "--model", str(run / "bundle"), str(clip), "--json", "-"]) == 0
    answer = json.loads(capsys.readouterr().out)
    answer = answer[0] if isinstance(answer, list) else answer
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.long
def test_folds_of_a_baseline(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVSER_DATA", str(data))
    started = []

    class Spy(subprocess.Popen[str]):
        def __init__(self, command: list[str], **settings: Any) -> None:
            started.append(command)
            super().__init__(command, **settings)

    monkeypatch.setattr(subprocess, "Popen", Spy)
    assert main(["crossval", *WORDS, "--folds", "2", "--out", str(tmp_path / "cv")]) == 0
    assert len([c for c in started if "avser.cli.fit_worker" in c]) == 1  # for both folds
    assert main(["fit", *WORDS, "--data.split.init_args.folds=2", "--data.split.init_args.fold=1",
                 "--out", str(tmp_path / "alone")]) == 0  # fmt: skip
    second = Predictions.load(tmp_path / "cv/seed0/fold1/predictions/test.json")
    alone = Predictions.load(tmp_path / "alone/predictions/test.json")
    assert second.clip_ids == alone.clip_ids  # nothing is left of the fold before
    assert np.array_equal(second.probabilities, alone.probabilities)
    summary = json.loads((tmp_path / "cv" / "results.json").read_text())
    assert summary["n"] == 6 * 8 * 2 and summary["epochs"] == [1]


def test_augmentation_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVSER_DATA", str(data))
    words = [
        *WORDS,
        "--model.augment=avser.training.augment.Augment",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["fit", *words]) == 1
    assert "unchanged clips" in capsys.readouterr().err
