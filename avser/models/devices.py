"""Device selection, and moving batches to a device."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.types import Batch


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" takes a GPU if there is one.

    Raises:
        ConfigError: there is no such kind of device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise bad_device(name, error) from error


def bad_device(name: str | torch.device, error: Exception) -> ConfigError:
    """Say that a device can't be used."""
    return ConfigError(f"Bad device {str(name)!r}: {str(error).splitlines()[0]}; use auto or cpu.")


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's parameters and buffers are; the processor if it has none."""
    for tensors in (module.parameters(), module.buffers()):
        for tensor in tensors:
            return tensor.device
    return torch.device("cpu")


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch whose tensors are on a device; tensors already there are not copied."""
    entries = cast("Mapping[str, object]", batch)
    moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in entries.items()}
    return cast("Batch", moved)
