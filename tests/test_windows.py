from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch

from avser.types import STEP_S, STEP_SAMPLES, steps_of
from avser.windows import WINDOW_STEPS, Piece, Samples, named, timeline, windows

LENGTHS = [
    0,
    1,
    100,
    STEP_SAMPLES,
    STEP_SAMPLES + 1,
    *(n * STEP_SAMPLES for n in (120, 121, 180, 181, 500)),
    *(n * STEP_SAMPLES + odd for n in (120, 180, 241) for odd in (-77, 77)),
]
NAMES = ("happy", "sad")


def ramp(samples: int) -> Samples:
    """Every sample tells the number of its step."""
    return np.repeat(np.arange(steps_of(samples), dtype=np.float32), STEP_SAMPLES)[:samples]


def reading(held: list[int]) -> Callable[[Sequence[Samples]], list[Piece]]:
    """A fake network that answers each step with the number that its samples hold."""

    def run(waves: Sequence[Samples]) -> list[Piece]:
        pieces = []
        for wave in waves:
            held.append(len(wave))
            number = torch.from_numpy(wave[::STEP_SAMPLES].copy())
            steps = torch.stack([number, -number], dim=1)
            mask = torch.ones(len(number), dtype=torch.bool)
            pieces.append(Piece(torch.tensor([0.5, 0.5]), steps, mask, 1))
        return pieces

    return run


def blocks(wave: Samples, size: int) -> Iterator[Samples]:
    yield from (wave[i : i + size] for i in range(0, len(wave), size))


@pytest.mark.parametrize("block", [None, 200_003, 3 * WINDOW_STEPS * STEP_SAMPLES])
@pytest.mark.parametrize("samples", LENGTHS)
def test_windows_join_without_gap_or_overlap(samples: int, block: int | None) -> None:
    held: list[int] = []
    wave = ramp(samples)
    pieces = list(windows(reading(held), [wave] if block is None else blocks(wave, block)))
    numbers = torch.cat([p.steps[:, 0] for p in pieces]).tolist()
    assert numbers == list(range(steps_of(samples)))
    assert sum(len(p.mask) for p in pieces) == len(numbers)
    assert max(held) <= WINDOW_STEPS * STEP_SAMPLES
    assert len(pieces) == 1 or samples > WINDOW_STEPS * STEP_SAMPLES


def test_every_step_but_the_edges_has_a_quarter_window_around_it() -> None:
    starts: list[int] = []

    def run(waves: Sequence[Samples]) -> list[Piece]:
        starts.extend(int(w[0]) for w in waves)
        return reading([])(waves)

    wave = ramp(400 * STEP_SAMPLES)
    for piece in windows(run, [wave]):
        first, last = int(piece.steps[0, 0]), int(piece.steps[-1, 0])
        assert first == 0 or first - starts[-1] >= WINDOW_STEPS // 4
        assert last == 399 or starts[-1] + WINDOW_STEPS - 1 - last >= WINDOW_STEPS // 4


@pytest.mark.parametrize("size", [100_003, 1_000_003, 5_000_000])
def test_memory_does_not_grow_with_length(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    window = WINDOW_STEPS * STEP_SAMPLES
    largest = 0
    join = np.concatenate

    def watched(parts: Sequence[Samples]) -> Samples:
        nonlocal largest
        largest = max(largest, sum(map(len, parts)))
        return join(parts)

    monkeypatch.setattr(np, "concatenate", watched)
    count = sum(1 for _ in windows(reading([]), blocks(ramp(6 * window), size)))
    assert count > 10
    assert largest <= window + min(size, window)


def test_windows_come_as_soon_as_their_sound_is_there() -> None:
    given: list[int] = []

    def live() -> Iterator[Samples]:
        for block in blocks(ramp(400 * STEP_SAMPLES), 10 * STEP_SAMPLES):
            given.append(len(block))
            yield block

    next(windows(reading([]), live()))
    assert len(given) == 13  # twelve blocks fill a window, the thirteenth shows that more comes


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
