import inspect
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import avser.models.heads
from avser.errors import ConfigError
from avser.models.heads import AttentiveHead, Head, LstmHead

DIM, CLASSES = 6, 4

KINDS = {
    name: kind
    for name, kind in vars(avser.models.heads).items()
    if inspect.isclass(kind) and issubclass(kind, Head) and not inspect.isabstract(kind)
}
every_head = pytest.mark.parametrize("kind", KINDS)


def make(kind: str) -> Head:
    torch.manual_seed(0)
    return KINDS[kind]().build(DIM, CLASSES).eval()


def holed(steps: int, *, size: int = 3) -> tuple[Tensor, Tensor]:
    """Clips with holes at the start, in the middle and at the end."""
    mask = torch.ones(size, steps, dtype=torch.bool)
    mask[0, :2] = False
    mask[1, steps // 2 : steps // 2 + 3] = False
    mask[2, -3:] = False
    return torch.randn(size, steps, DIM), mask


def test_all_heads_are_found() -> None:
    assert KINDS.keys() >= {"AttentiveHead", "LstmHead"}


@every_head
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_padding_never_leaks(kind: str, steps: int) -> None:
    head = make(kind)
    x = torch.randn(1, steps, DIM)
    logits, step_logits = head(x, torch.ones(1, steps, dtype=torch.bool))
    assert logits.shape == (1, CLASSES) and step_logits.shape == (1, steps, CLASSES)
    longer, mask = torch.full((2, 23, DIM), 1e3), torch.zeros(2, 23, dtype=torch.bool)
    longer[0, 2 : 2 + steps], mask[0, 2 : 2 + steps] = x[0], True
    longer[1], mask[1] = torch.randn(23, DIM), True
    padded, padded_steps = head(longer, mask)
    torch.testing.assert_close(padded[0], logits[0])
    torch.testing.assert_close(padded_steps[0, 2 : 2 + steps], step_logits[0])


@every_head
def test_what_invalid_steps_hold_does_not_matter(kind: str) -> None:
    head = make(kind)
    x, mask = holed(12)
    logits, steps = head(x, mask)
    x[~mask] = 1e4
    other, other_steps = head(x, mask)
    assert torch.equal(other, logits) and torch.equal(other_steps[mask], steps[mask])


def test_a_bidirectional_lstm_hears_both_ends_and_refuses_streams() -> None:
    head = LstmHead(hidden=5, bidirectional=True).build(DIM, CLASSES).eval()
    x, mask = torch.randn(1, 6, DIM), torch.ones(1, 6, dtype=torch.bool)
    other = x.clone()
    other[:, -1] += 1
    assert not torch.allclose(head(x, mask)[1][:, 0], head(other, mask)[1][:, 0])
    longer = torch.cat([x, torch.full((1, 3, DIM), 1e3)], dim=1)
    padded = head(longer, torch.cat([mask, torch.zeros(1, 3, dtype=torch.bool)], dim=1))
    torch.testing.assert_close(padded[0], head(x, mask)[0])
    with pytest.raises(ConfigError, match="bidirectional false"):
        head.initial_state(1)


@every_head
def test_a_hole_is_as_if_cut_out(kind: str) -> None:
    """Steps in which the face is lost are no data, not even about how long it was lost."""
    head = make(kind)
    x, mask = holed(12)
    logits, steps = head(x, mask)
    for row, (vectors, valid) in enumerate(zip(x, mask, strict=True)):
        cut = vectors[valid].unsqueeze(0)
        alone, alone_steps = head(cut, torch.ones(cut.shape[:2], dtype=torch.bool))
        torch.testing.assert_close(logits[row], alone[0])
        torch.testing.assert_close(steps[row][valid], alone_steps[0])


@every_head
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data())
def test_probabilities_sum_to_one(kind: str, data: st.DataObject) -> None:
    size, steps = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    scale = data.draw(st.sampled_from([0.0, 1e-3, 1.0, 1e3]))
    row = st.lists(st.booleans(), min_size=steps, max_size=steps)
    mask = torch.tensor(data.draw(st.lists(row, min_size=size, max_size=size)))
    logits, step_logits = make(kind)(scale * torch.randn(size, steps, DIM), mask)
    for probabilities in (logits.softmax(dim=-1), step_logits.softmax(dim=-1)):
        assert (probabilities >= 0).all()
        torch.testing.assert_close(
            probabilities.sum(dim=-1), torch.ones_like(probabilities[..., 0])
        )


@every_head
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    cuts=st.sets(st.integers(1, 15)),
    masks=st.lists(st.lists(st.booleans(), min_size=16, max_size=16), min_size=2, max_size=2),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_a_clip_in_pieces_is_the_clip(
    kind: str, cuts: set[int], masks: list[list[bool]], scale: float
) -> None:
    head = make(kind)
    mask = torch.tensor(masks)
    x = scale * torch.randn(2, 16, DIM)
    edges = [0, *sorted(cuts), 16]
    state, seen = head.initial_state(2), []
    for start, stop in itertools.pairwise(edges):
        logits, steps, state = head.advance(x[:, start:stop], mask[:, start:stop], state)
        seen.append(steps)
        so_far, _ = head(x[:, :stop], mask[:, :stop])
        torch.testing.assert_close(logits, so_far, atol=1e-4, rtol=1e-4)
    _, whole = head(x, mask)
    torch.testing.assert_close(torch.cat(seen, dim=1)[mask], whole[mask], atol=1e-5, rtol=1e-4)


@every_head
def test_state_is_of_each_clip_and_of_fixed_size(kind: str) -> None:
    head = make(kind)
    x, mask = holed(200)
    start = head.initial_state(3)
    _, _, state = head.advance(x, mask, start)
    assert [s.shape for s in state] == [s.shape for s in start]
    assert all(len(s) == 3 and s.dtype == torch.float32 for s in state)
    _, _, alone = head.advance(x[1:2], mask[1:2], head.initial_state(1))
    for ours, theirs in zip(state, alone, strict=True):
        torch.testing.assert_close(ours[1:2], theirs)


@every_head
def test_nothing_at_all_is_answered_and_trained_without_harm(kind: str) -> None:
    head = make(kind).train()
    x, mask = holed(6)
    mask[0] = False
    x.requires_grad_()
    logits, steps = head(x, mask)
    (logits[1:].logsumexp(dim=-1).sum() + steps[mask].square().sum()).backward()
    assert torch.isfinite(logits).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert x.grad is not None and torch.isfinite(x.grad).all() and not x.grad[0].any()


@every_head
def test_no_parameter_is_dead(kind: str) -> None:
    head = make(kind).train()
    logits, steps = head(*holed(9))
    (logits.square().sum() + steps.square().sum()).backward()
    dead = [n for n, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_the_clip_of_lrcn_is_the_mean_of_its_steps() -> None:
    head = make("LstmHead")
    x, mask = holed(10)
    logits, steps = head(x, mask)
    for row in range(3):
        mean = steps[row][mask[row]].softmax(dim=-1).mean(dim=0)
        torch.testing.assert_close(logits[row].softmax(dim=-1), mean)


def test_a_step_of_lrcn_knows_the_past_and_not_the_future() -> None:
    head = LstmHead(hidden=8).build(DIM, CLASSES).eval()
    x, mask = torch.randn(1, 8, DIM), torch.ones(1, 8, dtype=torch.bool)
    changed = x.clone()
    changed[:, 4] += 1
    before, after = head(x, mask)[1][0], head(changed, mask)[1][0]
    assert torch.equal(before[:4], after[:4])
    assert ((before[4:] - after[4:]).abs().amax(dim=-1) > 0).all()


def test_attention_of_a_long_stream_loses_nothing() -> None:
    """Steps far from zero: a difference of sums of squares would have no digit left."""
    head = make("AttentiveHead")
    assert isinstance(head, AttentiveHead)
    x, mask = 300 + torch.randn(1, 2000, DIM), torch.ones(1, 2000, dtype=torch.bool)
    state = head.initial_state(1)
    for piece in range(0, 2000, 10):
        _, _, state = head.advance(x[:, piece : piece + 10], mask[:, piece : piece + 10], state)
    _, total, mean, squares = state
    weights = head.attention(x.double().float()).double().softmax(dim=1)
    true_mean = (weights * x).sum(dim=1)
    deviation = ((weights * (x - true_mean).square()).sum(dim=1)).sqrt()
    torch.testing.assert_close(mean.double(), true_mean, rtol=1e-5, atol=0)
    torch.testing.assert_close((squares / total).sqrt().double(), deviation, rtol=1e-3, atol=0)


def test_names_of_weights_are_those_of_released_models() -> None:
    assert {name.split(".")[0] for name in make("AttentiveHead").state_dict()} == {
        "attention",
        "clip",
        "step",
    }
    assert {name.split(".")[0] for name in make("LstmHead").state_dict()} == {"recurrence", "step"}
