from pathlib import Path

import numpy as np
import pytest
import torch

from avser.evaluation.calibration import calibrate, crossval_temperature
from avser.evaluation.predict import predict, select_classes
from avser.evaluation.predictions import Predictions
from avser.models.net import EmotionNet, HeadOutput
from avser.testing.nets import tiny_net
from avser.types import Batch, Clip, audio_batch


class Fixed(EmotionNet):
    """A net whose audio logits are the labels', too sure by a factor."""

    factor = 4.0

    def forward(self, batch: Batch) -> dict[str, HeadOutput]:
        size = len(batch["label"])
        torch.manual_seed(0)
        clean = torch.randn(size, 3)
        present = torch.ones(size, dtype=torch.bool)
        mask = torch.ones(size, 1, dtype=torch.bool)
        return {"audio": HeadOutput(clean * self.factor, clean[:, None], mask, present)}


def batch_for(labels: torch.Tensor) -> Batch:
    size = len(labels)
    names = [f"c/{i}" for i in range(size)]
    return audio_batch(
        torch.randn(size, 9000), torch.full((size,), 9000), label=labels, clip_id=names
    )


def test_temperature_undoes_overconfidence() -> None:
    base = tiny_net()
    net = Fixed(audio=base.audio, head=type(base.heads["audio"])(), emotions=base.emotions).eval()
    torch.manual_seed(0)
    truth = torch.randn(4000, 3).softmax(dim=-1).multinomial(1).squeeze(1)
    calibrate(net, [batch_for(truth)])
    assert float(net.temperature("audio")) == pytest.approx(Fixed.factor, rel=0.15)


def test_temperature_of_a_crossvalidation_counts_corpora_alike_and_undoes_each_folds_own() -> None:
    random = np.random.default_rng(0)
    clean = random.normal(size=(3000, 3))
    shares = np.exp(clean) / np.exp(clean).sum(axis=1, keepdims=True)
    truth = np.array([random.choice(3, p=row) for row in shares])

    def fold(rows: slice, corpus: str, *, factor: float, made_with: float) -> Predictions:
        logits = torch.from_numpy(clean[rows] * factor / made_with)
        size = len(logits)
        return Predictions(
            clip_ids=[f"{corpus}/{rows.start + i}" for i in range(size)],
            speakers=[f"{corpus}/s{i % 4}" for i in range(size)],
            sexes=[""] * size,
            labels=truth[rows],
            probabilities=logits.softmax(dim=1).numpy(),
            emotions=("happy", "sad", "angry"),
            seen=[False] * size,
        )

    large = fold(slice(0, 2000), "large", factor=3.0, made_with=2.0)
    assert crossval_temperature([(large, 2.0)]) == pytest.approx(3.0, rel=0.1)
    other = fold(slice(2000, 2400), "small", factor=3.0, made_with=0.5)
    assert crossval_temperature([(large, 2.0), (other, 0.5)]) == pytest.approx(3.0, rel=0.1)
    sharper = fold(slice(2000, 2400), "small", factor=6.0, made_with=1.0)
    joint = crossval_temperature([(large, 2.0), (sharper, 1.0)])
    assert 4.0 < joint < 5.0  # by clips, of which there are five times fewer, it would be 3.3
    alone = crossval_temperature([(sharper, 1.0)])
    assert alone == pytest.approx(6.0, rel=0.2)


def test_answers_are_matched_by_clip_and_mapped_by_class() -> None:
    net = tiny_net(("happy", "sad", "angry"))
    batch = batch_for(torch.tensor([0, 1]))  # indices of the corpus's classes
    clips = [
        Clip(path=Path("x"), clip_id=str(i), emotion="sad", speaker=f"c/s{i}", corpus="c", sex=sex)
        for i, sex in ((1, "female"), (0, "male"))
    ]
    result = predict(net, [batch], clips, seen={"c/s1"}, classes=("sad", "happy"))
    assert result.clip_ids == ["c/0", "c/1"]
    assert result.speakers == ["c/s0", "c/s1"] and result.seen == [False, True]
    assert result.labels.tolist() == [1, 0]
    expected = net.predict(net(batch)).probabilities.detach().numpy()
    np.testing.assert_allclose(result.probabilities, expected, rtol=1e-5)


def test_silent_clips_count_as_uniform() -> None:
    net = tiny_net()
    batch = batch_for(torch.tensor([0]))
    batch["waveform"] = torch.zeros_like(batch["waveform"])
    clip = Clip(path=Path("x"), clip_id="0", emotion="happy", speaker="c/s", corpus="c")
    assert predict(net, [batch], [clip], seen=set()).probabilities == pytest.approx(1 / 3)


def test_restrict_shares_probabilities_out_anew() -> None:
    whole = Predictions(
        clip_ids=["a"],
        speakers=["s"],
        sexes=[""],
        labels=np.array([2]),
        probabilities=np.array([[0.5, 0.3, 0.2]], dtype=np.float32),
        emotions=("calm", "happy", "sad"),
        seen=[False],
    )
    part = select_classes(whole, ["sad", "happy"])
    assert part.emotions == ("sad", "happy") and part.labels.tolist() == [0]
    np.testing.assert_allclose(part.probabilities, [[0.4, 0.6]], rtol=1e-5)
