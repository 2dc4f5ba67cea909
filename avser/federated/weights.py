"""Conversion between a network and the tensors that clients and server exchange.

Parameters are exchanged and aggregated. Statistics of the front end are constants that the server
sends. Statistics of batch norm are never sent: each client has its own (see `has_batch_norm`).
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.models.net import EmotionNet
from avser.types import Batch

Arrays = dict[str, NDArray[np.float32]]

BRANCHES = ("audio", "video", "fused")


def branch_of(name: str) -> str:
    """Branch that a parameter belongs to: "audio", "video" or "fused"."""
    parts = name.split(".")
    owner = parts[1] if parts[0] == "heads" else parts[0]
    return "fused" if owner == "fusion" else owner


def branches_of(net: EmotionNet, streams: Iterable[str]) -> tuple[str, ...]:
    """Branches that a client with these streams can train: the fusion needs both."""
    known = set(streams)
    branches = [b for b in ("audio", "video") if b in known and getattr(net, b) is not None]
    return (
        (*branches, "fused") if len(branches) == 2 and net.fusion is not None else tuple(branches)
    )


def names_of(net: EmotionNet, branches: Iterable[str]) -> list[str]:
    """Names of the parameters of some branches, in the network's order."""
    wanted = set(branches)
    return [n for n, _ in net.named_parameters() if branch_of(n) in wanted]


def arrays_of(net: EmotionNet, names: Iterable[str]) -> Arrays:
    """Copies of parameters, as float32."""
    state = dict(net.named_parameters())
    return {n: state[n].detach().float().cpu().numpy().copy() for n in names}


@torch.no_grad()
def load_arrays(net: EmotionNet, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Put arrays into a network's parameters.

    Raises:
        ConfigError: one is not there or is of another shape.
    """
    state = dict(net.named_parameters())
    for name, value in arrays.items():
        if name not in state or state[name].shape != value.shape:
            raise ConfigError(f"Bad weights: {name!r} of shape {value.shape} is not this model's.")
        state[name].copy_(torch.from_numpy(np.array(value)))


def constants_of(net: EmotionNet) -> bytes:
    """Buffers that are the same for all: statistics of front ends and of features."""
    own = _statistics(net)
    constants = {
        n: b.detach().cpu().contiguous()
        for n, b in _persistent(net).items()
        if n not in own and not n.startswith("temperature_")
    }
    return save_tensors(constants)


@torch.no_grad()
def load_constants(net: EmotionNet, raw: bytes) -> None:
    """Put the server's constants into a network.

    Raises:
        ConfigError: they are another network's.
    """
    try:
        constants = load_tensors(raw)
    except Exception as error:  # safetensors raises its own untyped error
        raise ConfigError("Bad constants of the server: they are damaged.") from error
    buffers = _persistent(net)
    for name, value in constants.items():
        if name not in buffers or buffers[name].shape != value.shape:
            raise ConfigError(f"Bad constants of the server: {name!r} is not this model's.")
        buffers[name].copy_(value)


def _persistent(net: nn.Module) -> dict[str, Tensor]:
    state = net.state_dict()
    return {n: b for n, b in net.named_buffers() if n in state}


def _batch_norms(net: nn.Module) -> dict[str, nn.Module]:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return {n: m for n, m in net.named_modules() if isinstance(m, kinds)}


def has_batch_norm(net: nn.Module) -> str | None:
    """Name of the first layer with batch norm, or None.

    Its statistics describe a client's own voices, and those of one speaker are no estimate of all.
    Federated configurations therefore use group norm, which has none. Where batch norm is allowed,
    a client never sends its statistics, and the server estimates the released model's on its own
    validation clips (`refresh_statistics`).
    """
    return next(iter(_batch_norms(net)), None)


def _statistics(net: nn.Module) -> set[str]:
    return {
        f"{name}.{key}"
        for name, module in _batch_norms(net).items()
        for key, _ in module.named_buffers()
    }


def statistics_of(net: nn.Module) -> bytes:
    """Serialise the statistics of batch norm."""
    buffers = dict(net.named_buffers())
    return save_tensors({n: buffers[n].detach().clone() for n in sorted(_statistics(net))})


@torch.no_grad()
def load_statistics(net: nn.Module, raw: bytes) -> None:
    """Put back what `statistics_of` gave."""
    buffers = dict(net.named_buffers())
    for name, value in load_tensors(raw).items():
        buffers[name].copy_(value)


@torch.no_grad()
def refresh_statistics(net: EmotionNet, loader: Iterable[Batch]) -> None:
    """Estimate the statistics of batch norm on the server's own clips, without labels.

    Source: Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation", 2017.
    """
    layers = _batch_norms(net).values()
    if not layers:
        return
    net.eval()
    for layer in layers:
        layer.reset_running_stats()  # type: ignore[operator]
        layer.momentum = None  # type: ignore[assignment]  # the plain mean over all batches
        layer.train()
    for batch in loader:
        net(batch)
    for layer in layers:
        layer.momentum = 0.1  # type: ignore[assignment]
    net.eval()


def digest_of(arrays: Mapping[str, NDArray[np.float32]]) -> str:
    """Sixteen hex digits of names, shapes and contents."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {value.shape} {value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:16]


def norm_of(arrays: Mapping[str, NDArray[np.float32]]) -> float:
    """L2 norm over all arrays."""
    return float(np.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays.values())))


def difference(new: Mapping[str, NDArray[np.float32]], old: Arrays) -> Arrays:
    """Update: ``new - old``, for the names of ``new``."""
    return {n: np.asarray(v - old[n], dtype=np.float32) for n, v in new.items()}
