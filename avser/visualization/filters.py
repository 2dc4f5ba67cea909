"""The filters of a net's first convolution, and what each of them is made for."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.models.net import EmotionNet, encoder_of

#: What a filter is ranked by, and what that means, for a picture's captions.
MEANINGS: Mapping[str, str] = {
    "pitch": "share of its squared weights on the long window (plane 1), which resolves harmonics",
    "formant": "share of its squared weights on the short window (plane 2), which resolves time",
    "periodicity": "highest autocorrelation, along the rows and from 3 rows on, of the plane's "
    "weights summed over frames",
    "silence": "minus the sum of its weights over that of their absolute values: 1 where any "
    "sound lowers its output",
}
_FIRST_LAG = 3  # rows; nearer ones are alike in any smooth filter


def first_filters(net: EmotionNet, *, stream: str = "audio") -> Tensor:
    """Weights ``[n, C, M, F]`` of the first convolution over images: filters, planes, rows, frames.

    Args:
        net: the network.
        stream: "audio" or "video".

    Raises:
        ConfigError: the net has no such stream, or no such convolution in it.
    """
    for module in encoder_of(net, stream).modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.detach().float()
    raise ConfigError(
        f"Bad model: its {stream} encoder has no convolution over images; choose another."
    )


def rankings(filters: Tensor) -> dict[str, Tensor]:
    """Score filters ``[n, C, M, F]`` by each of `MEANINGS` that apply to them: ``[n]`` each.

    Pitch and formant are of filters with two planes, a long and a short window; periodicity of
    filters that are high enough to show one.
    """
    ways: dict[str, Callable[[Tensor], Tensor]] = {}
    if filters.shape[1] == 2:
        ways |= {"pitch": lambda w: _share(w, 0), "formant": lambda w: _share(w, 1)}
    if filters.shape[2] >= 4 * _FIRST_LAG:
        ways["periodicity"] = periodicity
    ways["silence"] = silence
    return {name: score(filters) for name, score in ways.items()}


def _share(filters: Tensor, plane: int) -> Tensor:
    energy = filters.square().sum(dim=(2, 3))
    return energy[:, plane] / energy.sum(dim=1).clamp(min=1e-12)


def periodicity(filters: Tensor) -> Tensor:
    """Highest normalised autocorrelation along the rows of the plane that has the highest.

    Lags go from 3 rows to half of them; each is divided by the energies of the two parts that it
    compares, so that a long lag is worth as much as a short one.
    """
    profile = filters.sum(dim=3)
    profile = profile - profile.mean(dim=2, keepdim=True)
    rows = profile.shape[2]
    result = []
    for lag in range(_FIRST_LAG, rows // 2 + 1):
        a, b = profile[..., lag:], profile[..., :-lag]
        energy = (a.square().sum(dim=2) * b.square().sum(dim=2)).sqrt()
        result.append((a * b).sum(dim=2) / energy.clamp(min=1e-12))
    return torch.stack(result).amax(dim=(0, 2))


def silence(filters: Tensor) -> Tensor:
    """Negated sum of a filter's weights over that of their absolute values, -1 to 1."""
    flat = filters.flatten(1)
    return -flat.sum(dim=1) / flat.abs().sum(dim=1).clamp(min=1e-12)
