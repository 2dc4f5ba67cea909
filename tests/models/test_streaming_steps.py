"""Step by step is the whole clip, for everything that can stream."""

import pytest
import torch
from tiny_encoders import ENCODERS, STREAMS
from torch import Tensor
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.encoders.recurrent import MaskedRecurrence
from avser.models.heads import AttentiveHead, Head, LinearHead, LstmHead
from avser.models.net import AudioBranch, EmotionNet

STEP = 8192
HEADS = {
    "attentive": lambda: AttentiveHead(hidden=8),
    "lstm": lambda: LstmHead(hidden=8),
    "linear": LinearHead,
}


def branch_of(encoder: str, head: Head) -> AudioBranch:
    torch.manual_seed(0)
    net = EmotionNet(audio=STREAMS[encoder](), head=head, emotions=("a", "b", "c")).eval()
    net.temperature("audio").fill_(0.6)
    return net.audio_branch()


@torch.inference_mode()
def fed(branch: AudioBranch, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a branch says of whole clips, step by step."""
    wave = F.pad(wave, (0, -wave.shape[1] % STEP))
    state = branch.initial_state(len(wave))
    message: list[tuple[Tensor, Tensor, Tensor]] = []
    for index, piece in enumerate(wave.split(STEP, dim=1)):
        here = (lengths - index * STEP).clamp(0, STEP)
        clip, step, mask, state = branch.advance(piece, here, state)
        message.append((clip, step, mask))
    return message[-1][0], *(torch.stack([s[i] for s in message], dim=1) for i in (1, 2))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("encoder", STREAMS)
def test_step_by_step_is_the_whole_clip(encoder: str, head: str) -> None:
    branch = branch_of(encoder, HEADS[head]())
    lengths = torch.tensor([5 * STEP + 3000, 4 * STEP + 10])
    wave = 0.1 * torch.randn(2, 5 * STEP + 3000)
    wave[:, : STEP + 3000] *= 1e-4  # silence before the voice, and in the midst of it
    wave[:, 3 * STEP - 900 : 4 * STEP - 5000] = 0
    wave = wave * (torch.arange(wave.shape[1]) < lengths[:, None])
    with torch.inference_mode():
        clip, steps, mask = branch(wave, lengths)
    result = fed(branch, wave, lengths)
    torch.testing.assert_close(result[0], clip, atol=1e-5, rtol=1e-4)
    before_sound = torch.arange(mask.shape[1]) < 1  # a stream can't know that sound will come
    assert torch.equal(result[2], mask & ~before_sound)
    torch.testing.assert_close(result[1][mask], steps[mask], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_silence_leaves_a_held_recurrence_as_it_is(cell: str) -> None:
    torch.manual_seed(0)
    layer = MaskedRecurrence(3, hidden=4, cell=cell, bidirectional=False, hold=True)
    mask = torch.tensor([[False, True, True, False, False, True, False]])
    x = torch.randn(1, 7, 3)
    alone, _ = layer.forwards(x[mask].unsqueeze(0))
    torch.testing.assert_close(layer(x, mask)[mask].unsqueeze(0), alone)
    assert not layer(x, mask)[~mask].any()
    pieces, state = [], layer.initial_state(1)
    for part, valid in zip(x.split(2, dim=1), mask.split(2, dim=1), strict=True):
        y, state = layer.advance(part, valid, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), layer(x, mask))
    assert not layer(x, torch.zeros_like(mask)).any()  # nothing to hear


def test_running_normalisation_is_exact_after_an_hour() -> None:
    """Sums of what was heard would have lost the last digits by then."""
    normaliser = STREAMS["lstm"]().normaliser
    state = normaliser.initial_state(1)
    frames = 32 * 7031  # an hour
    count = torch.full_like(state[0], frames)
    state = (count, torch.full_like(state[1], -9.0), torch.full_like(state[2], 4.0 * frames))
    features = -9 + 2 * torch.randn(1, 1, 13, 32)
    result, after = normaliser.advance(features, torch.ones(1, 32, dtype=torch.bool), state)
    torch.testing.assert_close(result, (features + 9) / 2, atol=1e-2, rtol=1e-2)
    assert float(after[0]) == frames + 32
    assert float(after[1]) == pytest.approx(-9.0, abs=1e-3)


def test_others_say_why_not() -> None:
    refused = {name: make() for name, make in ENCODERS.items() if make().not_streamable}
    assert {"crnn", "timm", "conv1d", "lstm"} <= set(refused) and "crnn causal" not in refused
    for name, encoder in refused.items():
        sentence = encoder.not_streamable
        assert sentence is not None and sentence.endswith(".") and "\n" not in sentence
        what = "whole clip" if encoder.span == "clip" else "configs/model/audio_stream.yaml"
        assert what in sentence, name
        with pytest.raises(ConfigError, match=f"Bad stream: .*{type(encoder).__name__}"):
            encoder.initial_state(1)
