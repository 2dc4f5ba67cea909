"""Stress: the same clips under every condition, in any process the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from avser.evaluation.stress import clip_rng, degraded, stress
from avser.evaluation.summary import stream_figures
from avser.media.degradations import CONDITIONS, Condition, Samples
from avser.testing.nets import tiny_net
from avser.types import Batch, Clip, audio_batch
from avser.visualization.plots import render
from avser.visualization.stress_plot import stress_figure

EMOTIONS = ("happy", "sad", "angry")
CLIPS = [
    Clip(path=Path("x"), clip_id=str(i), emotion=EMOTIONS[i % 3], speaker=f"c/{i // 3}", corpus="c")
    for i in range(6)
]


def batches() -> list[Batch]:
    torch.manual_seed(5)
    made = []
    for first in (0, 3):
        wave, lengths = 0.1 * torch.randn(3, 20_000), torch.tensor([20_000, 9_000, 15_000])
        wave = wave * (torch.arange(20_000) < lengths[:, None])
        names = [f"c/{i}" for i in range(first, first + 3)]
        made.append(audio_batch(wave, lengths, label=torch.tensor([0, 1, 2]), clip_id=names))
    return made


def test_the_clean_row_is_the_prediction_and_others_differ() -> None:
    net, loader = tiny_net(EMOTIONS).eval(), batches()
    before = [b["waveform"].clone() for b in loader]
    chosen = {name: CONDITIONS[name] for name in ("white noise 10 dB", "offset 0.005")}
    calls: list[tuple[int, int]] = []
    result = stress(
        net,
        loader,
        CLIPS,
        seen=set(),
        conditions=chosen,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert list(result) == ["clean", "white noise 10 dB", "offset 0.005"]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert all(torch.equal(a, b["waveform"]) for a, b in zip(before, loader, strict=True))
    with torch.no_grad():
        plain = torch.cat([net.predict(net(b)).probabilities for b in loader]).numpy()
    np.testing.assert_allclose(result["clean"].probabilities, plain, atol=1e-6)
    assert np.abs(result["white noise 10 dB"].probabilities - plain).max() > 1e-5
    # an offset is taken out before the network
    np.testing.assert_allclose(result["offset 0.005"].probabilities, plain, atol=1e-4)
    again = stress(net, loader, CLIPS, seen=set(), conditions=chosen)
    for name, made in again.items():
        assert np.array_equal(made.probabilities, result[name].probabilities)
    other = stress(net, loader, CLIPS, seen=set(), conditions=chosen, seed=1)
    apart = other["white noise 10 dB"].probabilities - result["white noise 10 dB"].probabilities
    assert np.abs(apart).max() > 0


def test_babble_is_of_other_speakers() -> None:
    given: list[Samples] = []

    def keep(samples: Samples, _: np.random.Generator, others: object) -> Samples:
        given.extend(others)  # type: ignore[arg-type]
        return samples

    own, strange = np.zeros(3, dtype=np.float32), np.ones(3, dtype=np.float32)
    pool = {"c/0": [own], "c/1": [strange]}
    list(degraded(batches()[:1], CLIPS, Condition("x", keep), pool=pool, seed=0))
    assert len(given) == 3 and all(x is strange for x in given)
    given.clear()
    list(degraded(batches()[:1], CLIPS, Condition("x", keep), pool={"c/0": [own]}, seed=0))
    assert all(x is own for x in given)  # better than none


def test_a_generator_follows_from_words() -> None:
    a, b, c = (clip_rng(*words).random() for words in (("x", 1), ("x", 1), ("x", 2)))
    assert a == b != c


def test_figures_have_intervals_and_are_drawn() -> None:
    result = stress(
        tiny_net(EMOTIONS).eval(),
        batches(),
        [replace(clip, speaker=f"c/{clip.clip_id}") for clip in CLIPS],  # enough for an interval
        seen=set(),
        conditions={"telephone": CONDITIONS["telephone"]},
    )
    figures = stream_figures({name: [made] for name, made in result.items()}, seeds=[])
    assert list(figures) == ["clean", "telephone"]
    assert 0 <= figures["clean"]["uar"]["low"] <= figures["clean"]["uar"]["value"]
    drawn = stress_figure(figures, title="tiny")
    axes = drawn.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["clean", "telephone"]
    widths = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    assert widths[0] == figures["clean"]["uar"]["value"]
    assert render(drawn).startswith(b"\x89PNG")
