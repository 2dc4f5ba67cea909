import copy

import pytest
import torch
from tiny_encoders import ENCODERS
from torch import Tensor
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.crnn import CrnnEncoder
from avser.models.frontends.logmel import LogMel
from avser.models.fusion.base import Fusion
from avser.models.fusion.concat import ConcatFusion
from avser.models.fusion.cross import CrossAttentionFusion
from avser.models.fusion.joint import JointCrossAttentionFusion
from avser.models.heads import AttentiveHead, Head, LinearHead, LstmHead
from avser.models.net import EmotionNet
from avser.testing.nets import VectorVideoEncoder, tiny_audio_encoder, tiny_net
from avser.types import Batch, audio_batch

HEADS = {
    "attentive": lambda: AttentiveHead(hidden=8),
    "lstm": lambda: LstmHead(hidden=8),
    "linear": lambda: LinearHead(average="probabilities"),
}
FUSIONS = {
    "concat": lambda: ConcatFusion(width=6),
    "cross": lambda: CrossAttentionFusion(width=6),
    "joint": lambda: JointCrossAttentionFusion(width=6, recursions=2),
    "joint, paper": lambda: JointCrossAttentionFusion(mode="paper", width=None, steps=4),
}
every_net = pytest.mark.parametrize(
    ("fusion", "head"), [(fusion, head) for fusion in FUSIONS for head in HEADS]
)
FEATURES = 5


def clips(*lengths: int) -> tuple[Tensor, Tensor]:
    """Noise bursts with quiet edges, padded to the longest."""
    size = torch.tensor(lengths)
    wave = torch.randn(len(lengths), max(lengths))
    index = torch.arange(max(lengths))
    loud = (index > 2000) & (index < size[:, None] - 2000)
    wave = wave * torch.where(loud, 0.2, 1e-4)
    return wave * (index < size[:, None]), size


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_padding_never_leaks(encoder: str, head: str) -> None:
    net = EmotionNet(audio=ENCODERS[encoder](), head=HEADS[head](), emotions=("a", "b", "c")).eval()
    wave, lengths = clips(40000, 9000, 21000, 2 * 8192)  # the last ends with its step
    together = net.predict(net(audio_batch(wave, lengths)))
    for row, length in enumerate(lengths.tolist()):
        alone = net.predict(net(audio_batch(wave[row : row + 1, :length], lengths[row : row + 1])))
        steps = alone.mask.shape[1]
        torch.testing.assert_close(together.probabilities[row], alone.probabilities[0])
        assert torch.equal(together.mask[row, :steps], alone.mask[0])
        assert not together.mask[row, steps:].any()
        valid = alone.mask[0]
        torch.testing.assert_close(
            together.step_probabilities[row, :steps][valid], alone.step_probabilities[0][valid]
        )


def net_of_both(fusion: str, head: str) -> EmotionNet:
    net = EmotionNet(
        audio=tiny_audio_encoder(),
        video=VectorVideoEncoder(features=FEATURES),
        fusion=FUSIONS[fusion](),
        head=HEADS[head](),
        emotions=("a", "b", "c"),
    )
    for index, name in enumerate(net.heads):
        net.temperature(name).fill_(1.5 + index)
    return net


def with_picture(wave: Tensor, lengths: Tensor, *, steps: int) -> Batch:
    batch = audio_batch(wave, lengths)
    batch["video_features"] = torch.randn(len(lengths), steps, FEATURES)
    return batch


def uneven() -> Batch:
    """Clips with both, without sound, without face, with a lost face, in silence, with nothing."""
    wave, lengths = clips(40000, 30000, 40000, 40000, 20000, 9000)
    batch = with_picture(wave, lengths, steps=7)  # the picture outlasts the sound
    wave[1], lengths[1] = 0, 0
    wave[4] *= 1e-4
    batch["video_features"][2] = 0
    batch["video_features"][3, 1:3] = 0
    batch["video_features"][5] = 0
    wave[5] = 0
    return batch


@every_net
def test_padding_never_leaks_between_streams(fusion: str, head: str) -> None:
    net = net_of_both(fusion, head).eval()
    wave, lengths = clips(40000, 9000, 21000)
    batch = with_picture(wave, lengths, steps=6)
    batch["video_features"][0, 2] = 0  # a face that is lost for a step
    seen = (4, 3, 6)  # steps of picture: less, and more, than of sound
    for row, steps in enumerate(seen):
        batch["video_features"][row, steps:] = 0
    streams = net(batch)
    together = net.predict(streams)
    assert together.used.tolist() == [0, 0, 0]
    for row, length in enumerate(lengths.tolist()):
        alone = audio_batch(wave[row : row + 1, :length], lengths[row : row + 1])
        alone["video_features"] = batch["video_features"][row : row + 1, : seen[row]]
        for name, stream in net(alone).items():
            torch.testing.assert_close(streams[name].logits[row], stream.logits[0])
        answer = net.predict(net(alone))
        valid = answer.mask[0]
        torch.testing.assert_close(together.probabilities[row], answer.probabilities[0])
        assert together.mask[row].sum() == valid.sum()
        torch.testing.assert_close(
            together.step_probabilities[row, : len(valid)][valid],
            answer.step_probabilities[0][valid],
        )


@every_net
def test_streams_may_be_absent_in_training(fusion: str, head: str) -> None:
    net = net_of_both(fusion, head).train()
    losses = []
    for stream in net(uneven()).values():
        target = torch.zeros(len(stream.logits), dtype=torch.long)
        clip = F.cross_entropy(stream.logits, target, reduction="none")
        assert torch.isfinite(clip).all()  # also of clips that the loss leaves out
        losses.append((clip * stream.present).sum())
        losses.append(
            F.cross_entropy(
                stream.step_logits[stream.mask], target[0].expand(int(stream.mask.sum()))
            )
        )
    torch.stack(losses).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@every_net
def test_streams_may_be_absent_in_use(fusion: str, head: str) -> None:
    net = net_of_both(fusion, head).eval()
    streams = net(uneven())
    answer = net.predict(streams)
    assert answer.used.tolist() == [0, 2, 1, 0, 2, -1]
    assert all(torch.isfinite(s.logits).all() for s in streams.values())
    assert answer.probabilities.sum(dim=1).tolist() == pytest.approx([1, 1, 1, 1, 1, 0])
    assert answer.mask[3].all()  # heard where it is not seen, seen where it is not heard
    assert not answer.mask[5].any()


@every_net
def test_without_a_face_the_answer_is_that_of_the_audio_branch(fusion: str, head: str) -> None:
    net = net_of_both(fusion, head).eval()
    wave, lengths = clips(20000, 30000)
    batch = with_picture(wave, lengths, steps=4)
    batch["video_features"].zero_()
    answer = net.predict(net(batch))
    probabilities, steps, mask = net.audio_branch()(wave, lengths)
    assert answer.used.tolist() == [1, 1]
    assert torch.equal(answer.probabilities, probabilities)
    assert torch.equal(answer.step_probabilities, steps) and torch.equal(answer.mask, mask)


@every_net
def test_the_fused_answer_uses_both_streams(fusion: str, head: str) -> None:
    net = net_of_both(fusion, head).eval()
    wave, lengths = clips(30000)
    batch = with_picture(wave, lengths, steps=4)
    first = net(batch)["fused"].logits
    received, seen = copy.copy(batch), copy.copy(batch)
    received["waveform"] = 0.3 * torch.sin(0.2 * torch.arange(30000.0)).unsqueeze(0)
    seen["video_features"] = batch["video_features"].flip(-1)
    for other in (received, seen):
        assert not torch.allclose(net(other)["fused"].logits, first, atol=1e-5)


def test_a_fusion_and_a_head_are_settings_that_nets_copy() -> None:
    fusion: Fusion = ConcatFusion(width=6)
    head = AttentiveHead(hidden=8)
    nets = [
        EmotionNet(
            audio=tiny_audio_encoder(),
            video=VectorVideoEncoder(features=5, dim=dim),
            fusion=fusion,
            head=head,
            emotions=("a", "b"),
        )
        for dim in (3, 4)
    ]
    assert [net.fusion.video.in_features for net in nets] == [3, 4]
    assert not list(fusion.parameters())


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoders_learn_and_keep_the_grid(encoder: str) -> None:
    module: AudioEncoder = ENCODERS[encoder]().train()
    wave, lengths = clips(20000, 16384)
    x, mask = module(wave, lengths)
    assert x.shape == (2, 3, module.dim) and mask.shape == (2, 3)
    if not list(module.parameters()):
        return  # of an encoder without weights a baseline learns
    x.square().sum().backward()
    dead = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_causal_encoder_does_not_hear_the_future() -> None:
    encoder = tiny_audio_encoder(causal=True).eval()
    wave = torch.randn(1, 4 * 8192)
    changed = wave.clone()
    changed[:, 2 * 8192 :] *= 0.1
    length = torch.tensor([4 * 8192])
    a, b = encoder(wave, length)[0], encoder(changed, length)[0]
    torch.testing.assert_close(a[:, :2], b[:, :2])
    assert not torch.allclose(a[:, 2:], b[:, 2:])


def test_quiet_edges_do_not_change_the_answer_of_a_trimming_encoder() -> None:
    net = tiny_net()
    voice = 0.2 * torch.randn(1, 8192 * 3)
    edge = 1e-4 * torch.randn(1, 8192)
    longer = torch.cat([edge, voice, edge], dim=1)
    trimmed = net.predict(net(audio_batch(longer, torch.tensor([8192 * 5]))))
    assert trimmed.mask[0].tolist() == [True, True, True, True, True]  # 50 ms margins reach out
    middle = longer[:, 8192 - 4096 :]
    moved = net.predict(net(audio_batch(middle, torch.tensor([middle.shape[1]]))))
    # half a step later on the grid: frames are pooled into other steps, so nearly the same
    torch.testing.assert_close(trimmed.probabilities, moved.probabilities, atol=0.05, rtol=0)


def test_audio_fallback_is_the_audio_branch_bit_for_bit() -> None:
    net = tiny_net(features=5)
    net.temperature("audio").fill_(1.7)
    wave, lengths = clips(20000, 30000)
    batch = audio_batch(wave, lengths)
    batch["video_features"] = torch.zeros(2, 4, 5)
    answer = net.predict(net(batch))
    probabilities, steps, mask = net.audio_branch()(wave, lengths)
    assert answer.used.tolist() == [1, 1]
    assert torch.equal(answer.probabilities, probabilities)
    assert torch.equal(answer.step_probabilities, steps)
    assert torch.equal(answer.mask, mask)
    alone = EmotionNet(audio=net.audio, head=AttentiveHead(hidden=8), emotions=net.emotions).eval()
    alone.heads["audio"] = net.heads["audio"]
    alone.temperature("audio").fill_(1.7)
    assert torch.equal(
        alone.predict(alone(audio_batch(wave, lengths))).probabilities, probabilities
    )


def test_each_clip_is_answered_by_what_it_has() -> None:
    net = tiny_net(features=5)
    wave, lengths = clips(20000, 20000, 20000, 20000)
    wave[1] = 0
    wave[3] *= 1e-4  # under -60 dBFS: silence is no voice
    batch = audio_batch(wave, lengths)
    batch["video_features"] = torch.randn(4, 3, 5)
    batch["video_features"][2:] = 0
    answer = net.predict(net(batch))
    assert answer.used.tolist() == [0, 2, 1, -1]  # fused, face, voice, nothing
    assert answer.probabilities[:3].sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert not answer.probabilities[3].any() and not answer.mask[3].any()


def test_net_refuses_parts_that_do_not_fit() -> None:
    head: Head = AttentiveHead()
    with pytest.raises(ConfigError, match="no encoder"):
        EmotionNet(head=head, emotions=("a", "b"))
    with pytest.raises(ConfigError, match="at least two"):
        EmotionNet(audio=tiny_audio_encoder(), head=head, emotions=("a",))
    with pytest.raises(ConfigError, match="uses later sound"):
        CrnnEncoder(frontend=LogMel(), causal=True)
    with pytest.raises(ConfigError, match="use divisors"):
        CrnnEncoder(frontend=LogMel(bins=40), channels=(4,), pools=((3, 2),))
