"""The feature cache: clips that come back are computed once, with equal features."""

from typing import Any

import pytest
import torch
from tiny_encoders import ENCODERS
from torch import Tensor

from avser.models.encoders.feature_cache import FeatureCache
from avser.models.heads import AttentiveHead
from avser.models.transforms import Transforms
from avser.training.augment import Augment
from avser.training.task import EmotionTask

LENGTHS = torch.tensor([20_000, 8192, 31_000, 700])


def clips() -> Tensor:
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(4, 31_000)
    return wave * (torch.arange(31_000) < LENGTHS[:, None])


@pytest.mark.parametrize("name", ENCODERS)
def test_a_cached_clip_has_the_features_of_the_computed_one(name: str) -> None:
    wave = clips()
    encoder = ENCODERS[name]().eval()
    if not hasattr(encoder, "raw_features"):
        pytest.skip("it has no front end")
    first = [0, 1]  # each shorter than the longest of the next batch
    with torch.inference_mode():
        expected = encoder(wave, LENGTHS)
        transforms = Transforms(features=FeatureCache())
        encoder(wave[first, :20_000], LENGTHS[first], transforms=transforms)
        cached = encoder(wave, LENGTHS, transforms=transforms)
    assert torch.equal(cached[1], expected[1])
    torch.testing.assert_close(cached[0], expected[0], atol=1e-5, rtol=1e-4)


def counted(encoder: Any) -> list[int]:
    asked: list[int] = []
    compute = encoder.raw_features

    def count(waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(len(waveform))
        result: tuple[Tensor, Tensor] = compute(waveform, lengths)
        return result

    encoder.raw_features = count
    return asked


def test_a_clip_is_computed_once() -> None:
    wave = clips()
    encoder = ENCODERS["crnn"]()
    asked = counted(encoder)
    cache = FeatureCache()
    encoder.eval()
    cache(encoder, wave[:2], LENGTHS[:2])
    cache(encoder, wave, LENGTHS)
    cache(encoder, wave.flip(0), LENGTHS.flip(0))
    assert asked == [1, 1, 1, 1]
    cache.clear()
    cache(encoder, wave, LENGTHS)
    assert asked == [1] * 8


def test_features_cached_in_inference_mode_train_the_network() -> None:
    wave = clips()
    encoder = ENCODERS["crnn"]()
    transforms = Transforms(features=FeatureCache())
    with torch.inference_mode():
        encoder.eval()(wave, LENGTHS, transforms=transforms)
    encoder.train()(wave, LENGTHS, transforms=transforms)[0].sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_clips_beyond_the_size_limit_are_computed_each_time() -> None:
    wave = clips()
    encoder = ENCODERS["crnn"]().eval()
    asked = counted(encoder)
    cache = FeatureCache(limit_bytes=0)
    for _ in range(2):
        cache(encoder, wave, LENGTHS)
    assert asked == [1] * 8


@pytest.mark.parametrize(("learns", "augmented"), [(False, False), (False, True), (True, False)])
def test_constant_features_of_unchanged_training_clips_are_cached(
    learns: bool, augmented: bool
) -> None:
    encoder = ENCODERS["crnn"]()
    if learns:
        encoder.frontend.register_parameter("gain", torch.nn.Parameter(torch.ones(())))
    task = EmotionTask(
        audio=encoder,
        head=AttentiveHead(hidden=8),
        emotions=("a", "b"),
        augment=Augment() if augmented else None,
    )
    assert (task.feature_cache is None) is learns  # of validation
    assert task.transforms.features is (None if augmented else task.feature_cache)
