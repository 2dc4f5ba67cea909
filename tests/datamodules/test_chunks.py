"""Chunks of 0.512 s as what is dealt, trained on and measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avser.cli import main
from avser.data.splits import RandomSplit, chunks
from avser.datamodules.clips import ClipDataModule
from avser.datamodules.corpora.ravdess import Ravdess
from avser.evaluation.predict import by_clip, predict
from avser.evaluation.predictions import Predictions
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.nets import tiny_net
from avser.types import STEP_SAMPLES, Clip, audio_batch

HERE = Path(__file__)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_ravdess(tmp_path_factory.mktemp("chunks") / "ravdess", speakers=4, per_emotion=2)


def clip(number: int, *, start_s: float | None = None) -> Clip:
    return Clip(
        path=HERE,
        clip_id=f"{number}",
        emotion="sad",
        speaker=f"c/{number % 2}",
        corpus="c",
        start_s=start_s,
    )


def test_chunks_tile_a_clip() -> None:
    result = chunks(clip(1, start_s=2.0), 2 * STEP_SAMPLES + 100)
    assert [c.clip_id for c in result] == ["1#0", "1#1", "1#2"]
    edges = [(c.start_s, c.end_s) for c in result]
    assert edges == [(2.0, 2.512), (2.512, 3.024), (3.024, 3.024 + 100 / 16_000)]
    assert {c.speaker for c in result} == {"c/1"}


def test_a_random_split_by_chunk_deals_each_by_itself(root: Path) -> None:
    split = RandomSplit(validation=0.2, test=0.2, unit="chunk")
    data = ClipDataModule(Ravdess(root), split, batch_size=4, crop_s=0.1)
    parts = data.parts
    every = {part: {c.clip_id for c in clips} for part, clips in parts.items()}
    steps = sum(-(-n // STEP_SAMPLES) for n in data.prepared.waves.lengths)
    assert sum(map(len, every.values())) == len(set.union(*every.values())) == steps
    assert len(every["test"]) == pytest.approx(0.2 * steps, abs=1)
    shared = {name.split("#")[0] for name in every["train"]}
    assert shared & {name.split("#")[0] for name in every["test"]}
    assert split.describe() == "random, by chunk" and split.mark == "RANDOM SPLIT"
    assert parts.notes == ("chunks of one recording are in several parts",)
    assert RandomSplit().describe() == "random" and RandomSplit().unit == "clip"


def test_a_chunk_is_its_part_of_the_samples(root: Path) -> None:
    data = ClipDataModule(Ravdess(root), RandomSplit(unit="chunk"), batch_size=4, crop_s=0.1)
    (whole,) = data.prepared.clips[:1]
    wave = data.prepared.waves[0]
    rows = chunks(whole, len(wave))
    assert len(rows) > 1
    (batch,) = data.loader(rows)
    by_name = dict(zip(batch["clip_id"], batch["waveform"], strict=True))
    for number, row in enumerate(rows):
        result = by_name[f"ravdess/{row.clip_id}"]
        expected = wave[number * STEP_SAMPLES : (number + 1) * STEP_SAMPLES] / 32768
        assert data.samples(row) == len(expected)
        np.testing.assert_allclose(result[: len(expected)], expected, atol=1e-6)
    lengths = {data.samples(c) for c in data.parts.train}
    trained = {int(n) for b in data.train_dataloader() for n in b["lengths"]}
    assert trained <= lengths and STEP_SAMPLES in trained  # neither trimmed nor cropped
    assert data.digests[f"ravdess/{rows[0].clip_id}"] != data.digests[f"ravdess/{rows[1].clip_id}"]


def test_copies_of_a_chunk_stay_together() -> None:
    rows = [c for n in range(20) for c in chunks(clip(n), 3 * STEP_SAMPLES)]
    digests = {
        f"c/{c.clip_id}": f"{int(c.clip_id.split('#')[0]) // 2}{c.clip_id[-2:]}" for c in rows
    }
    parts = RandomSplit(validation=0.3, test=0.3, unit="chunk").split(rows, digests)
    side = {c.clip_id: part for part, clips in parts.items() for c in clips}
    for number in range(0, 20, 2):
        for chunk in range(3):
            assert side[f"{number}#{chunk}"] == side[f"{number + 1}#{chunk}"]


def test_answers_by_chunk_and_their_mean_by_clip() -> None:
    net = tiny_net().eval()
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(2, 3 * STEP_SAMPLES)
    wave[1, STEP_SAMPLES:] = 0
    batch = audio_batch(
        wave,
        torch.tensor([3 * STEP_SAMPLES, STEP_SAMPLES]),
        label=torch.tensor([0, 1]),
        clip_id=["c/0", "c/1"],
    )
    rows = [clip(0), clip(1)]
    result = predict(net, [batch], rows, seen={"c/1"}, unit="chunk")
    assert result.clip_ids == ["c/0#0", "c/0#1", "c/0#2", "c/1#0"]
    assert result.labels.tolist() == [0, 0, 0, 1] and result.seen == [False] * 3 + [True]
    with torch.inference_mode():
        steps = net.predict(net(batch)).step_probabilities
    np.testing.assert_allclose(result.probabilities[1], steps[0, 1], rtol=1e-5)
    joined = by_clip(result)
    assert joined.clip_ids == ["c/0", "c/1"] and list(joined.speakers) == ["c/0", "c/1"]
    np.testing.assert_allclose(
        joined.probabilities[0], result.probabilities[:3].mean(axis=0), rtol=1e-5
    )


@pytest.mark.parametrize("unit", ["clip", "chunk"])
def test_a_training_gives_both_figures(root: Path, tmp_path: Path, unit: str) -> None:
    words = ["-c", "configs/data/ravdess.yaml", "-c", "configs/model/svm_mfcc.yaml"]
    words += ["--root", str(root), "--data.split=avser.data.splits.RandomSplit"]
    words += ["--data.split.init_args.test=0.2", "--data.split.init_args.validation=0.2"]
    words += [f"--data.split.init_args.unit={unit}", "--model.audio.init_args.span=step"]
    words += ["--model.head.init_args.unit=step", "--trainer.accelerator=cpu"]
    assert main(["fit", *words, "--out", str(tmp_path / "run")]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    other = "clip" if unit == "chunk" else "chunk"
    assert list(results["levels"]) == [other]
    kept = Predictions.load(tmp_path / "run" / "predictions" / f"test.{other}.json")
    accuracy = results["levels"][other]["accuracy"]["value"]
    assert accuracy == pytest.approx(float((kept.predicted == kept.labels).mean()), abs=1e-6)
    assert (len(kept) > results["n"]) == (other == "chunk")
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"By {other}" in page and "RANDOM SPLIT" in page
