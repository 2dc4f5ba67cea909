"""Recurrences that see only a clip's valid frames."""

from typing import cast

import torch
from torch import Tensor, nn

#: What is carried from piece to piece of a stream: ``[B, ...]`` each.
State = tuple[Tensor, ...]


def span_of(mask: Tensor) -> tuple[Tensor, Tensor]:
    """First valid index and number of frames up to the last, both ``[B, 1]``, of ``[B, F]``."""
    index = torch.arange(mask.shape[1], device=mask.device)
    first = torch.where(mask, index, mask.shape[1] - 1).amin(dim=1, keepdim=True)
    last = torch.where(mask, index, 0).amax(dim=1, keepdim=True)
    return first, (last - first + 1).clamp(min=1)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Pick frames ``index [B, F]`` of ``x [B, F, D]``; indices outside are clipped."""
    index = index.clamp(0, x.shape[1] - 1)
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]))


class MaskedRecurrence(nn.Module):
    """An LSTM or GRU over each clip's own frames, in one or both directions.

    Each clip is moved to begin at index 0 (and, for the backward pass, turned round) by a gather,
    so that neither silence before it nor padding after it is ever seen. Unlike packed sequences
    this runs unchanged in exported graphs.

    Args:
        size: width of the input.
        hidden: width of one direction.
        cell: "lstm" or "gru".
        bidirectional: also run from the last frame to the first.
        from_start: begin with the clip's first frame even if it is invalid (inputs are 0 there),
            as who hears a stream must: nobody tells it where the next valid one is.
    """

    def __init__(
        self,
        size: int,
        *,
        hidden: int,
        cell: str = "lstm",
        bidirectional: bool = True,
        from_start: bool = False,
    ) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.hidden, self.vectors = hidden, 2 if cell == "lstm" else 1
        self.dim = hidden * (2 if bidirectional else 1)
        self.from_start = from_start
        self.forwards = kind(size, hidden, batch_first=True)
        self.backwards = kind(size, hidden, batch_first=True) if bidirectional else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Turn ``x [B, F, size]`` under ``mask [B, F]`` into ``[B, F, dim]``."""
        if self.from_start:
            ahead, _ = self.forwards(x)
            return cast(Tensor, ahead) * mask.unsqueeze(-1).to(x.dtype)
        first, count = span_of(mask)
        index = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
        shifted, _ = self.forwards(_take(x, index + first))
        outputs = [_take(shifted, index - first)]
        if self.backwards is not None:
            last = first + count - 1
            turned, _ = self.backwards(_take(x, last - index))
            outputs.append(_take(turned, last - index))
        return torch.cat(outputs, dim=-1) * mask.unsqueeze(-1).to(x.dtype)

    def initial_state(self, size: int) -> State:
        """State of ``size`` clips of which nothing has come: one vector ``[B, hidden]``, or two."""
        like = next(self.parameters())
        return tuple(like.new_zeros(size, self.hidden) for _ in range(self.vectors))

    def advance(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, State]:
        """Go on over the next frames ``[B, F, size]``, as `forward` does with ``from_start``."""
        first, *rest = (vector.unsqueeze(0) for vector in state)
        y, new = self.forwards(x, (first, *rest) if rest else first)
        after = tuple(vector.squeeze(0) for vector in (new if rest else (new,)))
        return y * mask.unsqueeze(-1).to(x.dtype), after
