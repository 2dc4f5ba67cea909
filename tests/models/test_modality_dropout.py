import torch

from avser.models.net import _hide
from avser.models.transforms import Transforms
from avser.testing.nets import tiny_net
from avser.types import Batch, audio_batch


def batch_of(size: int, steps: int) -> Batch:
    torch.manual_seed(0)
    wave = 0.2 * torch.randn(size, steps * 8192)
    batch = audio_batch(wave, torch.full((size,), steps * 8192))
    batch["video_features"] = torch.randn(size, steps, 4)
    return batch


def test_dropout_hides_steps_from_the_fusion_alone() -> None:
    net = tiny_net(features=4)
    for module in net.modules():
        module.eval()
    net.training = True  # of the net itself: its parts stay without their own dropout
    batch = batch_of(64, 6)
    plain = net(batch)
    every = Transforms(modality_dropout=1.0)
    hidden = net(batch, transforms=every)
    for name in ("audio", "video"):
        assert torch.equal(plain[name].logits, hidden[name].logits)
    changed = (plain["fused"].logits - hidden["fused"].logits).abs().amax(dim=1) > 1e-6
    assert changed.float().mean() > 0.8
    assert hidden["fused"].present.all()  # what was hidden still trains the fused head
    net.training = False
    assert torch.equal(net(batch, transforms=every)["fused"].logits, plain["fused"].logits)


def test_runs_of_one_stream_are_hidden_and_sometimes_all_of_it() -> None:
    torch.manual_seed(1)
    whole = torch.ones(4000, 8, dtype=torch.bool)
    audio, video = _hide(whole, whole, share=0.5)
    assert not (~audio.all(dim=1) & ~video.all(dim=1)).any()  # never both
    hit = ~(audio & video).all(dim=1)
    assert 0.35 < hit.float().mean() < 0.55  # a run may fall between two steps
    for mask in (audio, video):
        lost = (~mask).sum(dim=1)
        assert (lost == 8).any() and ((lost > 0) & (lost < 8)).any()
        edges = (mask[:, 1:] != mask[:, :-1]).sum(dim=1)
        assert edges.max() <= 2  # one run
