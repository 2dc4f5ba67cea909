"""Recurrences as single operations, so that an exported graph takes any number of frames.

torch.export unrolls an LSTM or GRU frame by frame and so fixes their number. While exporting, each
is one operation of ours instead, which becomes ONNX's own LSTM or GRU, or torch's in a ``.pt2``.
"""

import copy
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from avser.models.encoders.crnn import ConvBlock
from avser.models.encoders.whisper import WhisperNetwork

Module = TypeVar("Module", bound=nn.Module)
Value = Any  # a tensor of a graph that onnxscript builds


@torch.library.custom_op("avser::lstm", mutates_args=())
def lstm(
    x: Tensor, short: Tensor, long: Tensor, weights: list[Tensor], hidden: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one direction of one LSTM layer: frames ``[B, F, I]``, states ``[1, B, H]``."""
    y, h, c = torch.lstm(x, [short, long], weights, True, 1, 0.0, False, False, True)
    return y.clone(), h.clone(), c.clone()


@lstm.register_fake
def _(
    x: Tensor, short: Tensor, long: Tensor, weights: list[Tensor], hidden: int
) -> tuple[Tensor, Tensor, Tensor]:
    y = x.new_empty(x.shape[0], x.shape[1], hidden)
    return y, torch.empty_like(short), torch.empty_like(long)


@torch.library.custom_op("avser::gru", mutates_args=())
def gru(x: Tensor, state: Tensor, weights: list[Tensor], hidden: int) -> tuple[Tensor, Tensor]:
    """Run one direction of one GRU layer; see `lstm`."""
    y, h = torch.gru(x, state, weights, True, 1, 0.0, False, False, True)
    return y.clone(), h.clone()


@gru.register_fake
def _(x: Tensor, state: Tensor, weights: list[Tensor], hidden: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], x.shape[1], hidden), torch.empty_like(state)


class _Lstm(nn.Module):
    """Stands in for an ``nn.LSTM``, with the same output."""

    def __init__(self, layer: nn.LSTM) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        size = self.layer.hidden_size
        short, long = state or (x.new_zeros(1, x.shape[0], size), x.new_zeros(1, x.shape[0], size))
        y, short, long = torch.ops.avser.lstm(x, short, long, list(self.layer.parameters()), size)
        return y, (short, long)


class _Gru(nn.Module):
    """Stands in for an ``nn.GRU``, with the same output."""

    def __init__(self, layer: nn.GRU) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        size = self.layer.hidden_size
        state = x.new_zeros(1, x.shape[0], size) if state is None else state
        y, state = torch.ops.avser.gru(x, state, list(self.layer.parameters()), size)
        return y, state


class _ProductConv1d(nn.Module):
    """An ``nn.Conv1d`` as one matrix product, which 8-bit files compute in 8 bits."""

    def __init__(self, layer: nn.Conv1d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        (size,), (stride,), (padding,) = (
            self.layer.kernel_size,
            self.layer.stride,
            cast(tuple[int], self.layer.padding),
        )
        x = rearrange(F.pad(x, (padding, padding)), "b c f -> b f c")
        end = x.shape[1] - size + 1
        parts = torch.cat([x[:, i : end + i : stride] for i in range(size)], dim=-1)
        weight = rearrange(self.layer.weight, "o c k -> o (k c)")
        return rearrange(F.linear(parts, weight, self.layer.bias), "b f o -> b o f")


def exportable(module: Module) -> Module:
    """Copy a module, in evaluation mode, with each recurrence as one operation of ours.

    Recurrences are of one layer and direction each, as `MaskedRecurrence` has them. Batch norms go
    into the convolutions before them, so that weights are rounded to 8 bits with their real scale.
    """
    module = copy.deepcopy(module).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for parent in list(module.modules()):
        if isinstance(parent, ConvBlock) and isinstance(parent.norm, nn.BatchNorm2d):
            parent.conv = fuse_conv_bn_eval(parent.conv, parent.norm)
            parent.norm = nn.Identity()
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LSTM) and not isinstance(parent, _Lstm):
                setattr(parent, name, _Lstm(child))
            elif isinstance(child, nn.Conv1d) and isinstance(parent, WhisperNetwork):
                setattr(parent, name, _ProductConv1d(child))
            elif isinstance(child, nn.GRU) and not isinstance(parent, _Gru):
                setattr(parent, name, _Gru(child))
    return module


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """ONNX nodes of our operations, for ``torch.onnx.export(custom_translation_table=...)``.

    ONNX orders the gates of an LSTM input, output, forget, cell and those of a GRU update, reset,
    hidden; torch's order is input, forget, cell, output and reset, update, hidden.
    """
    from onnxscript import opset20

    op: Any = opset20  # written for code that it compiles, not for code that calls it

    def reordered(value: Value, gates: tuple[int, ...], hidden: int) -> Value:
        rows = [op.Slice(value, [g * hidden], [(g + 1) * hidden], [0]) for g in gates]
        return op.Unsqueeze(op.Concat(*rows, axis=0), [0])

    def packed(weights: Value, gates: tuple[int, ...], hidden: int) -> list[Value]:
        wi, wh, bi, bh = (reordered(w, gates, hidden) for w in weights)
        return [wi, wh, op.Concat(bi, bh, axis=1)]

    def of_lstm(x: Value, short: Value, long: Value, weights: Value, hidden: int) -> Value:
        wi, wh, b = packed(weights, (0, 3, 1, 2), hidden)
        frames = op.Transpose(x, perm=[1, 0, 2])
        y, h, c = op.LSTM(frames, wi, wh, b, None, short, long, hidden_size=hidden)
        return op.Transpose(op.Squeeze(y, [1]), perm=[1, 0, 2]), h, c

    def of_gru(x: Value, state: Value, weights: Value, hidden: int) -> Value:
        wi, wh, b = packed(weights, (1, 0, 2), hidden)
        frames = op.Transpose(x, perm=[1, 0, 2])
        y, h = op.GRU(frames, wi, wh, b, None, state, hidden_size=hidden, linear_before_reset=1)
        return op.Transpose(op.Squeeze(y, [1]), perm=[1, 0, 2]), h

    return {torch.ops.avser.lstm.default: of_lstm, torch.ops.avser.gru.default: of_gru}
