"""Recurrences that see only a clip's valid frames."""

from typing import cast

import torch
from torch import Tensor, nn

#: State of a stream between two pieces: tensors ``[B, ...]``.
State = tuple[Tensor, ...]


def span_of(mask: Tensor) -> tuple[Tensor, Tensor]:
    """First valid index and number of frames up to the last, both ``[B, 1]``, of ``[B, F]``."""
    index = torch.arange(mask.shape[1], device=mask.device)
    first = torch.where(mask, index, mask.shape[1] - 1).amin(dim=1, keepdim=True)
    last = torch.where(mask, index, 0).amax(dim=1, keepdim=True)
    return first, (last - first + 1).clamp(min=1)


def take_frames(x: Tensor, index: Tensor) -> Tensor:
    """Pick frames ``index [B, F]`` of ``x [B, F, D]``; indices outside are clipped."""
    index = index.clamp(0, x.shape[1] - 1)
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]))


class MaskedRecurrence(nn.Module):
    """An LSTM or GRU over each clip's own frames, in one or both directions.

    Each clip is shifted to index 0, and reversed for the backward pass, by a gather: silence before
    it and padding after it never reach the cell. Unlike packed sequences this can be exported.

    Args:
        size: width of the input.
        hidden: width of one direction.
        cell: "lstm" or "gru".
        bidirectional: also run from the last frame to the first.
        hold: skip every invalid frame, also inside the clip. Streams need that: during silence
            they can't know whether the clip has ended.
    """

    def __init__(
        self,
        size: int,
        *,
        hidden: int,
        cell: str = "lstm",
        bidirectional: bool = True,
        hold: bool = False,
    ) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.hidden, self.vectors = hidden, 2 if cell == "lstm" else 1
        self.dim = hidden * (2 if bidirectional else 1)
        self.hold = hold
        self.forwards = kind(size, hidden, batch_first=True)
        self.backwards = kind(size, hidden, batch_first=True) if bidirectional else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Turn ``x [B, F, size]`` under ``mask [B, F]`` into ``[B, F, dim]``."""
        if self.hold:
            return self._valid_only(x, mask)
        first, count = span_of(mask)
        index = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
        shifted, _ = self.forwards(take_frames(x, index + first))
        outputs = [take_frames(shifted, index - first)]
        if self.backwards is not None:
            last = first + count - 1
            turned, _ = self.backwards(take_frames(x, last - index))
            outputs.append(take_frames(turned, last - index))
        return torch.cat(outputs, dim=-1) * mask.unsqueeze(-1).to(x.dtype)

    def _valid_only(self, x: Tensor, mask: Tensor) -> Tensor:
        """Forward pass over the valid frames alone: moved together, and back afterwards."""
        place = (mask.cumsum(dim=1) - 1).clamp(min=0)
        frames = x.shape[1]
        target = torch.where(mask, place, frames).unsqueeze(-1).expand(-1, -1, x.shape[2])
        room = x.new_zeros(x.shape[0], frames + 1, x.shape[2])
        together = room.scatter(1, target, x)[:, :frames]
        ahead, _ = self.forwards(together)
        return take_frames(cast(Tensor, ahead), place) * mask.unsqueeze(-1).to(x.dtype)

    def initial_state(self, size: int) -> State:
        """State of ``size`` clips of which nothing has come: one vector ``[B, hidden]``, or two."""
        like = next(self.parameters())
        return tuple(like.new_zeros(size, self.hidden) for _ in range(self.vectors))

    def advance(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, State]:
        """Go on over the next frames ``[B, F, size]``, as `forward` does with ``hold``."""
        outputs = []
        for frame, here in zip(x.unbind(dim=1), mask.unbind(dim=1), strict=True):
            valid = here.unsqueeze(-1)
            first, *rest = (vector.unsqueeze(0) for vector in state)
            y, new = self.forwards(frame.unsqueeze(1), (first, *rest) if rest else first)
            after = (vector.squeeze(0) for vector in (new if rest else (new,)))
            state = tuple(
                torch.where(valid, now, before) for now, before in zip(after, state, strict=True)
            )
            outputs.append(y * valid.unsqueeze(1).to(x.dtype))
        return torch.cat(outputs, dim=1), state
