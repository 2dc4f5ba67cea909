from collections.abc import Callable

import pytest
import torch

from avser.inference.windows import WINDOW_STEPS, WindowSpan, named, timeline, windows
from avser.types import STEP_S

NAMES = ("happy", "sad")


def numbering(asked: list[tuple[int, int]]) -> Callable[[int, int], WindowSpan]:
    """A fake network that answers each step with its number."""

    def run(start: int, steps: int) -> WindowSpan:
        asked.append((start, steps))
        number = torch.arange(start, start + steps, dtype=torch.float32)
        rows = torch.stack([number, -number], dim=1)
        return WindowSpan(torch.tensor([0.5, 0.5]), rows, torch.ones(steps, dtype=torch.bool), 1)

    return run


@pytest.mark.parametrize("steps", [1, 2, 119, 120, 121, 179, 180, 181, 241, 500])
def test_windows_join_without_gap_or_overlap(steps: int) -> None:
    asked: list[tuple[int, int]] = []
    pieces = list(windows(numbering(asked), steps))
    assert torch.cat([p.steps[:, 0] for p in pieces]).tolist() == list(range(steps))
    assert all(len(p.mask) == len(p.steps) for p in pieces)
    assert max(count for _, count in asked) <= WINDOW_STEPS
    assert len(pieces) == 1 or steps > WINDOW_STEPS


def test_every_step_but_the_edges_has_a_quarter_window_around_it() -> None:
    asked: list[tuple[int, int]] = []
    for piece in windows(numbering(asked), 400):
        first, last = int(piece.steps[0, 0]), int(piece.steps[-1, 0])
        start, count = asked[-1]
        assert first == 0 or first - start >= WINDOW_STEPS // 4
        assert last == 399 or start + count - 1 - last >= WINDOW_STEPS // 4


def test_timeline_ends_with_the_clip_and_leaves_out_silence() -> None:
    steps = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.7, 0.3]])
    mask = torch.tensor([True, True, False, True])
    entries = list(timeline(NAMES, steps, mask, duration_s=1.4))
    assert [e.label for e in entries] == ["happy", "sad", None]
    assert [e.start_s for e in entries] == pytest.approx([0, STEP_S, 2 * STEP_S])
    assert [e.end_s for e in entries] == pytest.approx([STEP_S, 2 * STEP_S, 1.4])
    assert entries[1].probabilities == pytest.approx({"happy": 0.2, "sad": 0.8})
    assert entries[2].probabilities is None
    assert named(NAMES, steps[0]) == pytest.approx({"happy": 0.9, "sad": 0.1})
