import pytest
import torch

from avser.inference.runner import WINDOW_STEPS, WindowOutput, _join, windows_of
from avser.types import STEP_S

NAMES = ("happy", "sad")


@pytest.mark.parametrize("steps", [1, 2, 119, 120, 121, 179, 180, 181, 241, 500])
def test_windows_join_without_gap_or_overlap(steps: int) -> None:
    cut = list(windows_of(steps))
    kept = [step for w in cut for step in range(w.first, w.last)]
    assert kept == list(range(steps))
    assert all(w.start <= w.first < w.last <= w.stop <= steps for w in cut)
    assert max(w.stop - w.start for w in cut) <= WINDOW_STEPS
    assert len(cut) == 1 or steps > WINDOW_STEPS


def test_every_step_but_the_edges_has_a_quarter_window_around_it() -> None:
    for w in windows_of(400):
        assert w.first == 0 or w.first - w.start >= WINDOW_STEPS // 4
        assert w.last == 400 or w.stop - w.last >= WINDOW_STEPS // 4


def test_a_window_keeps_its_own_steps() -> None:
    steps = torch.arange(60, 180, dtype=torch.float32).unsqueeze(1).expand(-1, 2)
    output = WindowOutput(torch.tensor([0.5, 0.5]), steps, torch.ones(120, dtype=torch.bool), 1)
    second = list(windows_of(400))[1]
    kept = output.kept(second)
    assert kept.steps[:, 0].tolist() == list(range(90, 150)) and len(kept.mask) == 60


def test_timeline_ends_with_the_clip_and_leaves_out_silence() -> None:
    steps = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.7, 0.3]])
    mask = torch.tensor([True, True, False, True])
    output = WindowOutput(torch.tensor([0.6, 0.4]), steps, mask, used=1)
    joined = _join(NAMES, [output], 1.4)
    assert joined.label == "happy" and joined.heads == {"audio"}
    assert joined.probabilities == pytest.approx({"happy": 0.6, "sad": 0.4})
    entries = joined.timeline
    assert [e.label for e in entries] == ["happy", "sad", None]
    assert [e.start_s for e in entries] == pytest.approx([0, STEP_S, 2 * STEP_S])
    assert [e.end_s for e in entries] == pytest.approx([STEP_S, 2 * STEP_S, 1.4])
    assert entries[1].probabilities == pytest.approx({"happy": 0.2, "sad": 0.8})
    assert entries[2].probabilities is None
