"""Features are computed once for clips that come back, and are the same."""

import copy
from typing import Any

import pytest
import torch
from tiny_encoders import ENCODERS
from torch import Tensor

from avser.models.encoders.feature_cache import FeatureCache
from avser.models.heads import AttentiveHead
from avser.training.task import EmotionTask

LENGTHS = torch.tensor([20_000, 8192, 31_000, 700])


def clips() -> Tensor:
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(4, 31_000)
    return wave * (torch.arange(31_000) < LENGTHS[:, None])


@pytest.mark.parametrize("name", ENCODERS)
def test_a_remembered_clip_has_the_features_of_the_computed_one(name: str) -> None:
    wave = clips()
    encoder = ENCODERS[name]().eval()
    if not hasattr(encoder, "raw_features"):
        pytest.skip("it has no front end")
    first = [0, 1]  # each shorter than the longest of the next batch
    with torch.inference_mode():
        expected = encoder(wave, LENGTHS)
        encoder.memory = FeatureCache(training=False)
        encoder(wave[first, :20_000], LENGTHS[first])
        found = encoder(wave, LENGTHS)
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-4)


def counted(encoder: Any) -> list[int]:
    asked: list[int] = []
    compute = encoder._raw_features

    def count(waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(len(waveform))
        result: tuple[Tensor, Tensor] = compute(waveform, lengths)
        return result

    encoder._raw_features = count
    return asked


def test_a_clip_is_computed_once_and_only_where_it_comes_unchanged() -> None:
    wave = clips()
    encoder = ENCODERS["crnn"]()
    asked = counted(encoder)
    encoder.memory = FeatureCache(training=False)
    encoder.eval()
    encoder.raw_features(wave[:2], LENGTHS[:2])
    encoder.raw_features(wave, LENGTHS)
    encoder.raw_features(wave.flip(0), LENGTHS.flip(0))
    assert asked == [1, 1, 1, 1]
    encoder.train()  # training clips are augmented
    encoder.raw_features(wave, LENGTHS)
    assert asked == [1, 1, 1, 1, 4]
    encoder.memory = FeatureCache(training=True)
    encoder.raw_features(wave, LENGTHS)
    encoder.raw_features(wave, LENGTHS)
    assert asked == [1, 1, 1, 1, 4, 1, 1, 1, 1]


def test_what_was_remembered_without_gradients_can_be_learned_from() -> None:
    wave = clips()
    encoder = ENCODERS["crnn"]()
    encoder.memory = FeatureCache(training=True)
    with torch.inference_mode():
        encoder.eval()(wave, LENGTHS)
    encoder.train()(wave, LENGTHS)[0].sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_memory_ends_where_its_room_does_and_copies_share_it() -> None:
    wave = clips()
    encoder = ENCODERS["crnn"]().eval()
    asked = counted(encoder)
    encoder.memory = FeatureCache(training=True, limit_bytes=0)
    for _ in range(2):
        encoder.raw_features(wave, LENGTHS)
    assert asked == [1] * 8
    whole = FeatureCache(training=True)
    assert copy.deepcopy(whole) is whole


@pytest.mark.parametrize("learns", [False, True])
def test_a_front_end_that_learns_is_not_remembered(learns: bool) -> None:
    encoder = ENCODERS["crnn"]()
    if learns:
        encoder.frontend.register_parameter("gain", torch.nn.Parameter(torch.ones(())))
    task = EmotionTask(audio=encoder, head=AttentiveHead(hidden=8), emotions=("a", "b"))
    assert task.net.audio is not None
    assert (task.net.audio.memory is None) is learns
