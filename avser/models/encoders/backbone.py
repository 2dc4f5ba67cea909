"""Image networks of timm by name, and where their weights come from."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avser.errors import ConfigError

_HUB = "huggingface.co"
_PROBE_S = 3.0  # without a network the hub's own retries take most of a minute
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_ENDPOINT")


def create_backbone(
    name: str, *, channels: int, size: tuple[int, int], pretrained: bool | str = False
) -> nn.Module:
    """Make a network of timm that turns images ``[n, channels, *size]`` into vectors ``[n, D]``.

    Args:
        name: as timm writes it, ``resnet18`` or with a tag ``resnet18.a1_in1k``.
        channels: of the images; timm adapts the first layer of pretrained weights.
        size: rows and columns of the images, for networks that are built for one size.
        pretrained: False; True for timm's weights from the hub; or the path of a local file of
            timm's tensors by name (safetensors, or a state dict that torch can load safely).

    Raises:
        ConfigError: there is no such network, or its weights can't be loaded.
    """
    import timm

    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=3)
        meant = f"such as {', '.join(close)}" if close else "such as resnet18"
        raise ConfigError(f"Bad backbone {name!r}: expected the name of a timm model, {meant}.")
    cfg = timm.get_pretrained_cfg(name)
    fixed = {"img_size": size} if cfg is not None and cfg.fixed_input_size else {}
    settings: dict[str, Any] = {"in_chans": channels, "num_classes": 0, **fixed}
    model: nn.Module
    if pretrained is False:
        model = timm.create_model(name, pretrained=False, **settings)
    elif pretrained is True:
        try:
            with _no_retries():
                model = timm.create_model(name, pretrained=True, **settings)
        except Exception as error:  # of the hub, of its transport, of timm: no common base
            raise ConfigError(
                f"Bad pretrained true: the weights of {name} are not in the cache and can't be "
                "fetched; connect to the internet once, name a local file, or set it to false."
            ) from error
    else:
        weights = _read(Path(pretrained))
        settings["pretrained_cfg_overlay"] = {"state_dict": weights}
        try:
            model = timm.create_model(name, pretrained=True, **settings)
        except RuntimeError as error:
            raise ConfigError(
                f"Bad pretrained {pretrained!r}: its tensors have other shapes than those of "
                f"{name}; name the file of this very network."
            ) from error
        _check(model, weights, name=name, path=pretrained)
    # the settings that timm keeps would hold every weight a second time
    getattr(model, "pretrained_cfg", {}).pop("state_dict", None)
    return model


@torch.no_grad()
def pad_alike(network: nn.Module, images: Tensor) -> None:
    """Make convolutions that pad unequally pad opposite sides alike; outputs are the same.

    Unequal padding, as TensorFlow has it, copies the whole map first. A kernel with a row and a
    column of zeros more needs no copy: a fifth less time of an EfficientNet-Lite.

    Args:
        network: in evaluation mode; from now on it takes images of this size alone.
        images: ``[n, C, H, W]`` of that size.
    """
    from timm.layers.conv2d_same import Conv2dSame

    sizes: dict[nn.Module, torch.Size] = {}
    padded = [m for m in network.modules() if isinstance(m, Conv2dSame)]
    hooks = [
        m.register_forward_pre_hook(lambda m, args: sizes.update({m: args[0].shape[-2:]}))
        for m in padded
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    for parent in list(network.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and conv in sizes and conv.dilation == (1, 1):
                setattr(parent, name, _padded_alike(conv, sizes[conv]))


def _padded_alike(conv: nn.Conv2d, size: torch.Size) -> nn.Conv2d:
    from timm.layers.padding import get_same_padding

    sides = zip(size, conv.kernel_size, conv.stride, strict=True)
    whole = [int(get_same_padding(n, kernel, stride, 1)) for n, kernel, stride in sides]
    (more_h, more_w), padding = [n % 2 for n in whole], [n - n // 2 for n in whole]
    alike = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (conv.kernel_size[0] + more_h, conv.kernel_size[1] + more_w),
        stride=(conv.stride[0], conv.stride[1]),
        padding=(padding[0], padding[1]),
        groups=conv.groups,
        bias=False,
        device="meta",  # draws no weights
    )
    alike.weight = nn.Parameter(nn.functional.pad(conv.weight, (more_w, 0, more_h, 0)))
    alike.bias = conv.bias
    return alike.to(memory_format=torch.channels_last).train(conv.training)


def backbone_dim(model: nn.Module) -> int:
    """Width D of a backbone's vectors; some families have a layer after their last feature map."""
    dim: int = getattr(model, "head_hidden_size", None) or model.num_features  # type: ignore[assignment]
    return dim


def check_resizable(model: nn.Module) -> None:
    """Refuse a network that is built for one image size.

    Raises:
        ConfigError: it is.
    """
    if getattr(model, "pretrained_cfg", {}).get("fixed_input_size"):
        raise ConfigError(
            f"Bad resizing: {type(model).__name__} is built for one image size; use a "
            "convolutional backbone such as resnet34."
        )


def backbone_colour(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation, from 0 to 1 and per channel, of the images of the weights' training."""
    from timm.data.config import resolve_model_data_config

    cfg: dict[str, Any] = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    return tuple(cfg["mean"]), tuple(cfg["std"])


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by name, without executing anything that the file holds."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise ConfigError(f"Bad pretrained {str(path)!r}: there is no such file of weights.")
    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or unsafe file raises many kinds
        raise ConfigError(
            f"Bad pretrained {str(path)!r}: it is damaged, or holds more than tensors; save the "
            "network's state dict as safetensors."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(f"Bad pretrained {str(path)!r}: expected tensors by name.")
    return state


def _check(model: nn.Module, weights: dict[str, Tensor], *, name: str, path: str) -> None:
    """Refuse weights of another network: timm would ignore tensors that do not fit."""
    names = [n for n in model.state_dict() if not n.endswith("num_batches_tracked")]
    missing = [n for n in names if n not in weights]
    if missing:
        raise ConfigError(
            f"Bad pretrained {path!r}: it lacks {len(missing)} of the {len(names)} tensors of "
            f"{name}, {missing[0]!r} for one; name the file of this very network."
        )


@contextmanager
def _no_retries() -> Iterator[None]:
    """Restrict the hub to its cache if there is no network."""
    import huggingface_hub.constants as hub

    before = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = before or not connected()
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def connected() -> bool:
    """Whether the hub answers within some seconds."""
    if any(os.environ.get(name) for name in _PROXIES):
        return True  # only the hub itself knows
    try:
        socket.create_connection((_HUB, 443), timeout=_PROBE_S).close()
    except OSError:
        return False
    return True
