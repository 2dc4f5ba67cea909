import base64
import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from avser.errors import ConfigError
from avser.types import STEP_S, Prediction, TimelineEntry
from avser.visualization import clip_plots as draw_clip
from avser.visualization import plots as draw


def words(figure: Figure) -> str:
    """All text that is drawn in the axes and legends."""
    figure.canvas.draw()
    result = [text.get_text() for axes in figure.axes for text in axes.texts]
    for axes in figure.axes:
        result += [axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")]
        result += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        legend = axes.get_legend()
        result += [text.get_text() for text in legend.get_texts()] if legend else []
    result += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join(result)


def prediction(labels: list[str | None]) -> Prediction:
    steps = [
        TimelineEntry(
            start_s=i * STEP_S,
            end_s=(i + 1) * STEP_S,
            label=label,
            probabilities=None
            if label is None
            else {
                "happy": 0.7 if label == "happy" else 0.3,
                "sad": 0.3 if label == "happy" else 0.7,
            },
        )
        for i, label in enumerate(labels)
    ]
    received = any(labels)
    return Prediction(
        label="happy" if received else None,
        probabilities={"happy": 0.6, "sad": 0.4} if received else None,
        modalities=("audio",) if received else (),
        reason=None if received else "no_signal",
        duration_s=len(labels) * STEP_S,
        timeline=tuple(steps),
        model="tiny",
    )


def test_confusion_shows_counts_and_shares() -> None:
    figure = draw.confusion_figure([[3, 1], [0, 0]], ["happy", "sad"])
    text = words(figure)
    assert "3\n.750" in text
    assert "1\n.250" in text
    assert "True class" in text
    shares = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.asarray(shares), [[0.75, 0.25], [0, 0]])
    with pytest.raises(ConfigError, match=r"expected \(3, 3\)"):
        draw.confusion_figure([[1, 2], [3, 4]], ["happy", "sad", "angry"])


def test_reliability_draws_only_bins_that_hold_clips() -> None:
    bins: list[dict[str, float | None]] = [
        {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1.0, "count": 9, "confidence": 0.8, "accuracy": 0.6},
    ]
    figure = draw.reliability_figure(bins, ece=0.2)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [0.6]
    assert ".200" in words(figure)
    assert words(draw.reliability_figure([], ece=None))


@pytest.mark.parametrize("name", ["validation/uar", "val_uar", "validation_uar"])
def test_curves_show_both_parts_and_the_best_epoch(name: str) -> None:
    history = {
        "train/loss": [2.0, 1.0, 0.5],
        "validation/loss": [2.0, 1.5, 1.6],
        "train/uar": [0.3, 0.6, 0.9],
        name: [float("nan"), 0.55, 0.5],
        "learning_rate": [1e-3, 1e-3, 1e-4],
    }
    figure = draw.curves_figure(history)
    loss, uar = figure.axes
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    assert uar.lines[0].get_ydata()[-1] == pytest.approx(0.9)
    assert "highest on validation: .550, epoch 2" in words(figure)


def test_accuracy_has_a_panel_where_it_was_logged() -> None:
    figure = draw.curves_figure({"validation/accuracy": [0.25, 0.5], "train/uar": [0.1, 0.2]})
    assert [axes.get_ylabel() for axes in figure.axes] == ["Loss", "UAR", "Accuracy"]
    assert figure.axes[2].lines[0].get_ydata().tolist() == [0.25, 0.5]


def test_curves_of_nothing_are_empty_axes() -> None:
    assert not any(
        axes.lines for axes in draw.curves_figure({"validation/uar": [float("nan")]}).axes[:1]
    )


def test_counts_stand_in_the_order_of_the_vocabulary() -> None:
    figure = draw.class_counts_figure({"train": {"sad": 2, "neutral": 5}, "test": {"happy": 1}})
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["neutral", "happy", "sad"]
    assert [bar.get_height() for bar in axes.patches] == [5, 0, 2, 0, 1, 0]
    assert "test" in words(figure)
    assert draw.class_counts_figure({}).axes


def test_durations_state_their_median() -> None:
    text = words(draw.durations_figure({"train": [1.0, 2.0, 6.0], "test": []}))
    assert "train: median 2.00 s" in text
    assert "Duration, s" in text
    assert "test" not in text


def test_waveform_and_spectrograms_share_the_time_axis() -> None:
    planes = [("long window", np.zeros((64, 128))), ("short window", np.ones((64, 128)))]
    figure = draw_clip.waveform_figure(
        np.zeros(16384), planes, sample_rate=16000, hop_s=0.008, fmax_hz=2000
    )
    wave, *spectra = figure.axes[:3]
    assert wave.get_xlim() == (0, 1.024)
    for axes in spectra:
        assert axes.images[0].get_extent() == pytest.approx([0, 1.024, 0, 2.0])
    assert "long window" in words(figure)
    assert "Frequency, kHz" in words(figure)
    assert (
        len(draw_clip.waveform_figure([], [], sample_rate=16000, hop_s=0.008, fmax_hz=8000).axes)
        == 1
    )


def test_timeline_joins_steps_and_leaves_gaps() -> None:
    figure = draw_clip.timeline_figure(prediction(["happy"] * 6 + [None] * 2 + ["sad"] * 6))
    strip = figure.axes[1]
    assert [text.get_text() for text in strip.texts] == ["happy", "sad"]
    assert [round(band.get_width() / STEP_S) for band in strip.patches] == [6, 2, 6]
    text = words(figure)
    assert "happy, 60 %" in text
    assert "Time, s" in text


@pytest.mark.parametrize("labels", [[], [None, None]])
def test_timeline_of_no_signal_says_so(labels: list[str | None]) -> None:
    figure = draw_clip.timeline_figure(prediction(labels))
    assert "no signal" in words(figure)
    assert draw.render(figure, dpi=40).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "head"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF-"), ("a.SVG", b"<?xml")]
)
def test_the_suffix_decides_the_format(name: str, head: bytes, tmp_path: Path) -> None:
    figure = draw.confusion_figure([[1]], ["sad"])
    path = draw.save_figure(figure, tmp_path / name, dpi=50)
    twin = draw.confusion_figure([[1]], ["sad"])
    again = draw.save_figure(twin, tmp_path / f"b{path.suffix}", dpi=50)
    assert path.read_bytes().startswith(head)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, again.name])
    if path.suffix != ".png":
        assert path.read_bytes() == again.read_bytes()  # no date, no random name


def test_another_suffix_is_refused_with_the_legal_ones(tmp_path: Path) -> None:
    for name in ("a.jpg", "a", "a.png.txt"):
        with pytest.raises(ConfigError, match=r"expected a name that ends in \.png, \.pdf, \.svg"):
            draw.save_figure(draw.confusion_figure([[1]], ["sad"]), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_png_is_whole_and_the_same_each_time(tmp_path: Path) -> None:
    images = [draw.render(draw.confusion_figure([[1]], ["sad"]), dpi=50) for _ in range(2)]
    assert images[0] == images[1]
    with Image.open(io.BytesIO(images[0])) as image:
        image.load()
        assert image.width > 100


def test_data_uri_holds_the_image() -> None:
    head, _, body = draw.to_data_uri(draw.confusion_figure([[1]], ["sad"]), dpi=50).partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        assert image.format == "PNG"
