"""Norms that leave invalid frames out."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from avser.models.encoders.crnn import CrnnEncoder
from avser.models.encoders.norms import MaskedBatchNorm
from avser.models.frontends.logmel import LogMel


def padded() -> tuple[torch.Tensor, torch.Tensor]:
    """Maps ``[3, 4, 5, 9]``, of which the last is wholly invalid, with rubbish as padding."""
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(3, 4, 5, 9)
    mask = torch.arange(9) < torch.tensor([9, 4, 0])[:, None]
    return torch.where(mask[:, None, None], x, 1e3), mask


def test_training_statistics_are_those_of_the_valid_frames() -> None:
    x, mask = padded()
    masked, plain = MaskedBatchNorm(4), nn.BatchNorm2d(4)
    result = masked(x, mask)
    unpadded = torch.cat([x[0], x[1, ..., :4]], dim=-1)[None]
    right = plain(unpadded)
    assert torch.allclose(
        masked.get_buffer("running_mean"), plain.get_buffer("running_mean"), atol=1e-6
    )
    assert torch.allclose(
        masked.get_buffer("running_var"), plain.get_buffer("running_var"), atol=1e-5
    )
    assert torch.allclose(result[0], right[0, ..., :9], atol=1e-5)
    assert torch.allclose(result[1, ..., :4], right[0, ..., 9:], atol=1e-5)
    assert not result[1, ..., 4:].any() and not result[2].any()


def test_evaluation_is_that_of_plain_batch_norm_with_the_same_weights() -> None:
    x, mask = padded()
    masked = MaskedBatchNorm(4)
    masked(x, mask)
    plain = nn.BatchNorm2d(4)
    plain.load_state_dict(masked.state_dict())
    assert torch.equal(masked.eval()(x, mask), plain.eval()(x))


def test_batch_without_valid_frames_leaves_the_statistics() -> None:
    x, mask = padded()
    masked = MaskedBatchNorm(4)
    assert not masked(x, torch.zeros_like(mask)).any()
    assert torch.equal(masked.get_buffer("running_mean"), torch.zeros(4))


def test_statistics_of_an_encoder_do_not_depend_on_padding() -> None:
    torch.manual_seed(0)
    encoder = CrnnEncoder(
        frontend=LogMel(bins=16, window=512, hop=512, n_fft=512, causal=True),
        normalise="none",
        trim_db=None,
        channels=(4, 8),
        pools=((2, 2), (2, 2)),
        hidden=4,
        width=8,
        causal=True,
        norm="masked_batch",
    )
    speech = 0.1 * torch.randn(2, 2 * 8_192)
    lengths = torch.full((2,), speech.shape[1])
    result = []
    for steps in (0, 3):
        one = copy.deepcopy(encoder)
        one(F.pad(speech, (0, steps * 8_192)), lengths)
        norms = [m for m in one.modules() if isinstance(m, MaskedBatchNorm)]
        result.append(torch.cat([m.get_buffer("running_mean") for m in norms]))
        assert len(norms) == 2
    assert torch.allclose(result[0], result[1], atol=1e-6)
