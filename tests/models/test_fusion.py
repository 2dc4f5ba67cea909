import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import avser.models.fusion
from avser.errors import ConfigError
from avser.models.fusion.base import Fusion
from avser.models.fusion.concat import ConcatFusion
from avser.models.fusion.cross import CrossAttentionFusion
from avser.models.fusion.joint import JointCrossAttentionFusion
from avser.models.fusion.resample import off_grid, onto_grid, overlap
from avser.testing.nets import MeanFusion

AUDIO, VIDEO = 5, 7  # widths of the streams that come


def kinds() -> Iterator[type[Fusion]]:
    """Every fusion under ``avser.models.fusion``: a newcomer is tested by existing."""
    for module in pkgutil.walk_packages(avser.models.fusion.__path__, "avser.models.fusion."):
        for result in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(result) and result.__module__ == module.name:
                if issubclass(result, Fusion) and not inspect.isabstract(result):
                    yield result


def values_of(name: str, hint: Any) -> tuple[Any, ...]:
    """Values of a setting to test: all that a Literal or a bool lists, two of some numbers."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if name == "width":  # of the projection of each stream; None where streams need none
        return (None, 6) if type(None) in get_args(hint) else (6,)
    return {"recursions": (1, 2)}.get(name, (False, True) if hint is bool else ())


def choices() -> dict[str, tuple[type[Fusion], dict[str, Any]]]:
    """Each fusion in each of its modes, with and without projection, recursive and not."""
    result: dict[str, tuple[type[Fusion], dict[str, Any]]] = {}
    for kind in (*kinds(), MeanFusion):
        settings: list[dict[str, Any]] = [{}]
        for name, hint in get_type_hints(kind.__init__).items():
            values = values_of(name, hint)
            settings = [{**s, name: v} for s in settings for v in values] if values else settings
        for some in settings:
            words = " ".join(f"{k}={v}" for k, v in some.items())
            result[f"{kind.__name__} {words}".strip()] = kind, some
    return result


CHOICES = choices()
ATTENTION = (CrossAttentionFusion, JointCrossAttentionFusion)  # video half, then audio half
every_fusion = pytest.mark.parametrize("choice", CHOICES)


def make(choice: str) -> Fusion:
    kind, settings = CHOICES[choice]
    return kind(**settings).build(AUDIO, VIDEO).eval()


def streams(steps: int, *, size: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two streams that are there throughout."""
    there = torch.ones(size, steps, dtype=torch.bool)
    return torch.randn(size, steps, AUDIO), there, torch.randn(size, steps, VIDEO), there.clone()


def padded(x: Tensor, steps: int, *, before: int = 0) -> Tensor:
    """Put ``x [1, T, ...]`` among invalid steps that hold garbage (of a mask: False)."""
    shape = (1, steps, *x.shape[2:])
    longer = torch.full(shape, 1e3) if x.is_floating_point() else torch.zeros(shape, dtype=x.dtype)
    longer[:, before : before + x.shape[1]] = x
    return longer


# -- what every fusion is ------------------------------------------------------------------------


def test_all_fusions_are_found() -> None:
    names = {kind.__name__ for kind in kinds()}
    assert names >= {"ConcatFusion", "CrossAttentionFusion", "JointCrossAttentionFusion"}
    assert sum(c.startswith("JointCross") for c in CHOICES) == 8  # 2 modes x 2 recursions x 2


@every_fusion
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_any_number_of_steps(choice: str, steps: int) -> None:
    fusion = make(choice)
    x, mask = fusion(*streams(steps, size=3))
    assert x.shape == (3, steps, fusion.dim) and mask.all() and torch.isfinite(x).all()


@every_fusion
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_padding_never_leaks(choice: str, steps: int) -> None:
    fusion = make(choice)
    alone = streams(steps)
    alone[3][:, steps // 2] = steps == 1  # the face is lost in the middle
    x, mask = fusion(*alone)
    among = [padded(part, 23, before=2) for part in alone]
    others = streams(23)
    batch = [torch.cat([a, b]) for a, b in zip(among, others, strict=True)]
    padded_x, padded_mask = fusion(*batch)
    assert torch.equal(padded_mask[0, 2 : 2 + steps], mask[0])
    assert int(padded_mask[0].sum()) == steps
    torch.testing.assert_close(padded_x[0, 2 : 2 + steps], x[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded_x[1], fusion(*others)[0][0], atol=1e-5, rtol=1e-4)
    assert not padded_x[0, :2].any() and not padded_x[0, 2 + steps :].any()


@every_fusion
def test_what_an_invalid_step_holds_does_not_matter(choice: str) -> None:
    fusion = make(choice)
    audio, received, video, seen = streams(9)
    seen[:, 3:5] = False
    received[:, 7] = False
    x, mask = fusion(audio, received, video, seen)
    assert mask.all()  # a step is valid if either stream is
    audio[:, 7], video[:, 3], video[:, 4] = 1e6, torch.nan, torch.inf
    torch.testing.assert_close(fusion(audio, received, video, seen)[0], x, atol=0, rtol=0)


@every_fusion
def test_output_depends_on_both_streams(choice: str) -> None:
    fusion = make(choice)
    audio, received, video, seen = streams(6)
    seen[:, 2] = False
    audio.requires_grad_(), video.requires_grad_()
    x, _ = fusion(audio, received, video, seen)
    x.square().sum().backward()
    for given, valid in ((audio, received), (video, seen)):
        assert given.grad is not None and torch.isfinite(given.grad).all()
        assert (given.grad[valid].abs().sum(dim=-1) > 0).all()  # on every valid step
        assert not given.grad[~valid].any()


@every_fusion
@pytest.mark.parametrize("lost", ["audio", "video", "both"])
def test_a_stream_that_is_absent_leaves_finite_results(choice: str, lost: str) -> None:
    fusion = make(choice)
    audio, received, video, seen = streams(5)
    received[:] = lost == "video"
    seen[:] = lost == "audio"
    audio.requires_grad_(), video.requires_grad_()
    x, mask = fusion(audio, received, video, seen)
    assert torch.isfinite(x).all() and torch.equal(mask, received | seen)
    x.square().sum().backward()
    for grad in [audio.grad, video.grad, *(p.grad for p in fusion.parameters())]:
        assert grad is None or torch.isfinite(grad).all()
    if lost == "both":
        assert not x.any()


@every_fusion
def test_no_parameter_is_dead(choice: str) -> None:
    fusion = make(choice).train()
    audio, received, video, seen = streams(11, size=4)
    seen[0, 4:7] = False
    fusion(audio.requires_grad_(), received, video, seen)[0].square().sum().backward()
    dead = [n for n, p in fusion.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@every_fusion
def test_half_precision_around_it_gives_what_full_precision_gives(choice: str) -> None:
    fusion = make(choice)
    audio, received, video, seen = streams(7, size=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x, _ = fusion(10 * audio.bfloat16(), received, 10 * video.bfloat16(), seen)
    assert x.dtype == torch.float32 and torch.isfinite(x).all()
    full, _ = fusion(10 * audio.bfloat16().float(), received, 10 * video.bfloat16().float(), seen)
    torch.testing.assert_close(x, full, atol=0.3, rtol=0.02)  # the input has eight bits


@every_fusion
def test_settings_alone_make_no_layers(choice: str) -> None:
    kind, settings = CHOICES[choice]
    assert not list(kind(**settings).parameters())  # what a net copies and sizes for itself


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (ConcatFusion, {"width": 0}, "Bad width 0: legal is 1 or more"),
        (JointCrossAttentionFusion, {"hidden": 0}, "Bad hidden 0"),
        (JointCrossAttentionFusion, {"steps": -8}, "Bad steps -8"),
        (JointCrossAttentionFusion, {"recursions": 0}, "Bad recursions 0"),
        (JointCrossAttentionFusion, {"mode": "papr"}, "expected one of .*did you mean 'paper'"),
    ],
)
def test_settings_out_of_range_are_refused(
    kind: type[Fusion], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**settings)


# -- the equations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choice", [c for c, (kind, _) in CHOICES.items() if issubclass(kind, ATTENTION)]
)
def test_each_attended_half_depends_on_both_streams(choice: str) -> None:
    """Neither half may be the raw stream: public code once dropped the attended audio."""
    fusion = make(choice)
    audio, received, video, seen = streams(6)
    audio.requires_grad_(), video.requires_grad_()
    x, _ = fusion(audio, received, video, seen)
    width = CHOICES[choice][1]["width"] or VIDEO
    assert fusion.dim == (12 if CHOICES[choice][1]["width"] else VIDEO + AUDIO)
    for half in (x[..., :width], x[..., width:]):
        for grad in torch.autograd.grad(half.square().sum(), [audio, video], retain_graph=True):
            assert (grad.abs().sum(dim=-1) > 0).all()


def weight(module: Any) -> NDArray[np.float64]:
    """A linear layer's matrix as the papers write it: input first."""
    return module.weight.detach().double().numpy().T


def paper_attention(
    x: NDArray[np.float64], joint: NDArray[np.float64], layers: Any
) -> NDArray[np.float64]:
    """Equations 2 to 4 as printed, with ``x [Da, L]`` and ``joint [D, L]``."""
    width = joint.shape[0]
    c = np.tanh(x @ weight(layers.correlate) @ joint.T / np.sqrt(width))
    h = np.maximum(0, x @ weight(layers.own) + c @ weight(layers.shared))
    return h @ weight(layers.back) + x


def masked_attention(
    x: NDArray[np.float64], joint: NDArray[np.float64], layers: Any, valid: int
) -> NDArray[np.float64]:
    """The masked mode's equations, with ``x [Da, T]`` and ``joint [D, T]``."""
    width = joint.shape[0]
    c = np.tanh(x.T @ weight(layers.correlate) @ joint / np.sqrt(width))
    h = np.maximum(0, x.T @ weight(layers.own) + c @ joint.T @ weight(layers.shared) / valid)
    return (h @ weight(layers.back)).T + x


@pytest.mark.parametrize("recursions", [1, 2, 3])
@pytest.mark.parametrize("steps", [8, 16])
def test_paper_mode_is_the_five_equations_element_by_element(steps: int, recursions: int) -> None:
    fusion = JointCrossAttentionFusion(
        mode="paper", steps=steps, recursions=recursions, width=None, hidden=4
    )
    fusion.build(AUDIO, VIDEO).eval()
    audio, received, video, seen = streams(steps)
    a, v = audio[0].double().numpy().T, video[0].double().numpy().T
    for _ in range(recursions):
        joint = np.concatenate([a, v])
        a, v = (
            paper_attention(a, joint, fusion.attend_audio),
            paper_attention(v, joint, fusion.attend_video),
        )
    x, _ = fusion(audio, received, video, seen)
    np.testing.assert_allclose(x[0].detach().numpy().T, np.concatenate([v, a]), atol=1e-5)


@pytest.mark.parametrize("recursions", [1, 2])
def test_masked_mode_is_its_equations_on_the_valid_steps(recursions: int) -> None:
    fusion = JointCrossAttentionFusion(recursions=recursions, width=None, hidden=4)
    fusion.build(AUDIO, VIDEO).eval()
    audio, received, video, seen = streams(9)
    seen[:, 4:6] = False
    received[:, 8] = seen[:, 8] = False
    a, v = (audio * received[..., None])[0].numpy().T, (video * seen[..., None])[0].numpy().T
    for _ in range(recursions):
        joint = np.concatenate([a, v])
        a, v = (
            masked_attention(a, joint, fusion.attend_audio, 8) * received[0].numpy(),
            masked_attention(v, joint, fusion.attend_video, 8) * seen[0].numpy(),
        )
    x, _ = fusion(audio, received, video, seen)
    np.testing.assert_allclose(x[0].detach().numpy().T, np.concatenate([v, a]), atol=1e-5)


def test_cross_attention_is_its_equations() -> None:
    fusion = CrossAttentionFusion(width=None)
    fusion.build(AUDIO, VIDEO).eval()
    audio, received, video, seen = streams(6)
    a, v = audio[0].double().numpy().T, video[0].double().numpy().T
    z = np.exp(a.T @ weight(fusion.affinity).T @ v)  # W [Da, Dv] is the layer's own matrix
    a_att = np.tanh(a + a @ (z / z.sum(axis=0)))
    v_att = np.tanh(v + v @ (z.T / z.T.sum(axis=0)))
    x, _ = fusion(audio, received, video, seen)
    np.testing.assert_allclose(x[0].detach().numpy().T, np.concatenate([v_att, a_att]), atol=1e-5)


def test_concatenation_has_zeros_for_what_is_not_there() -> None:
    fusion = ConcatFusion(width=None).build(AUDIO, VIDEO)
    audio, received, video, seen = streams(3)
    seen[:, 1] = False
    received[:, 2] = False
    x, _ = fusion(audio, received, video, seen)
    assert torch.equal(x[0, 0], torch.cat([video[0, 0], audio[0, 0]]))
    assert torch.equal(x[0, 1], torch.cat([torch.zeros(VIDEO), audio[0, 1]]))
    assert torch.equal(x[0, 2], torch.cat([video[0, 2], torch.zeros(AUDIO)]))


# -- resampling ----------------------------------------------------------------------------------


def test_resampling_to_as_many_points_as_steps_changes_nothing() -> None:
    mask = torch.tensor([[False, True, True, False, True]])
    weights = overlap(mask, 3)
    assert torch.equal(weights[0], torch.eye(5)[[1, 2, 4]])  # valid steps only, in their order
    x = torch.randn(1, 5, 2)
    assert torch.equal(off_grid(onto_grid(x, weights), weights)[mask], x[mask])


def test_resampling_to_more_points_is_linear_interpolation() -> None:
    weights = overlap(torch.ones(1, 2, dtype=torch.bool), 4)
    ramp = onto_grid(torch.tensor([[[0.0], [1.0]]]), weights)
    assert ramp.flatten().tolist() == pytest.approx([0, 0.25, 0.75, 1])


@pytest.mark.parametrize("steps", [1, 2, 3, 11, 20, 120])
def test_resampling_keeps_constants_and_passes_no_step_over(steps: int) -> None:
    weights = overlap(torch.ones(1, steps, dtype=torch.bool), 8)
    assert (weights.amax(dim=1) > 0.2).all() and (weights.amax(dim=2) > 0.2).all()
    there = onto_grid(torch.full((1, steps, 1), 3.0), weights)
    torch.testing.assert_close(there, torch.full((1, 8, 1), 3.0))
    torch.testing.assert_close(off_grid(there, weights), torch.full((1, steps, 1), 3.0))


def test_a_lost_face_is_no_part_of_the_means_of_the_paper_mode() -> None:
    """Filling the hole with zeros would halve the points beside it."""
    both = torch.ones(1, 12, dtype=torch.bool)
    seen = both.clone()
    seen[:, 5] = False
    weights = overlap(both, 8) * seen[:, None]
    ones = onto_grid(torch.ones(1, 12, 1) * seen[..., None], weights)
    torch.testing.assert_close(ones, torch.ones(1, 8, 1))
