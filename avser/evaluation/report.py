"""Report of a run: one self-contained HTML page, and ``results.json`` beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from avser.emotions import VOCABULARY
from avser.evaluation import html as page
from avser.evaluation import metrics
from avser.evaluation.numbers import format_figure
from avser.evaluation.paper import write_figures, write_tables
from avser.evaluation.summary import MEANINGS, Predictions
from avser.evaluation.tables import metadata_rows
from avser.files import atomic_write
from avser.visualization import plots as draw
from avser.visualization.stress_plot import stress_figure

MISTAKES = 20  # rows: enough to listen to, few enough to read

LIMITS = (
    "Figures hold for this corpus, this split and these speakers. Acted emotion differs from felt "
    "emotion, and voices and faces differ between cultures, ages and accents: measure again "
    "before use elsewhere. A prediction is an estimate of expressed emotion, not of a state of "
    "mind."
)


def write_report(
    folder: str | Path,
    summary: Mapping[str, Any],
    *,
    predictions: Predictions | Sequence[Predictions],
    history: Mapping[str, Sequence[float]] | None = None,
    audit: Mapping[str, Any] | None = None,
    config_text: str | None = None,
    validation: Predictions | None = None,
    figures: Sequence[str] = (),
) -> Path:
    """Write ``report.html``, ``results.json`` and ``tables/`` into a folder.

    Each file is written all or nothing; ``tables/`` has each table as CSV and as LaTeX.

    Args:
        folder: of the files; it is created if it is missing.
        summary: of `avser.evaluation.summary.summarise`.
        predictions: that were summarised; mistakes are listed from the first.
        history: training curves, as `avser.visualization.plots.curves_figure` takes them.
        audit: of the split: ``{"split_hash", "notes", "parts": {part: {"clips", "speakers",
            "classes"}}, "duplicates": [[clip, clip], ...]}``.
        config_text: the run's configuration.
        validation: predictions of the selected epoch on the validation part.
        figures: formats (png, pdf, svg) in which ``figures/`` is written too, at column width.

    Returns:
        The path of the page.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    first = predictions if isinstance(predictions, Predictions) else predictions[0]
    text = page_of(
        summary,
        predictions=first,
        history=history,
        audit=audit,
        config_text=config_text,
        validation=validation,
    )
    with atomic_write(place / "results.json") as file:
        file.write(json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    with atomic_write(place / "report.html") as file:
        file.write(text)
    write_tables(place / "tables", summary)
    if figures:
        drawn = figures_of(summary, history=history, audit=audit)
        write_figures(place / "figures", drawn, suffixes=[f".{name}" for name in figures])
    return place / "report.html"


def figures_of(
    summary: Mapping[str, Any],
    *,
    history: Mapping[str, Sequence[float]] | None = None,
    audit: Mapping[str, Any] | None = None,
) -> dict[str, Figure]:
    """Draw the figures of a report, by name; arguments as of `write_report`."""
    figures = {
        "confusion": draw.confusion_figure(summary["confusion"], summary["classes"]),
        "reliability": draw.reliability_figure(summary["reliability"], ece=summary["ece"]),
    }
    if summary.get("stress"):
        figures["stress"] = stress_figure(summary["stress"])
    if history:
        figures["curves"] = draw.curves_figure(history, stacked=True)
    counts = {n: dict(p.get("classes", {})) for n, p in (audit or {}).get("parts", {}).items()}
    if any(counts.values()):
        figures["classes"] = draw.class_counts_figure(counts)
    return figures


def page_of(
    summary: Mapping[str, Any],
    *,
    predictions: Predictions,
    history: Mapping[str, Sequence[float]] | None = None,
    audit: Mapping[str, Any] | None = None,
    config_text: str | None = None,
    validation: Predictions | None = None,
) -> str:
    """Return the page as text; it refers to nothing outside itself."""
    title = f"{summary['model']} on {summary['corpus']}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(summary["split"])}, split {escape(summary["split_hash"])}</p>',
        _warning(summary["marks"]),
        _headline(summary),
        _classes(summary),
        _sexes(summary),
        _speakers(summary),
        _calibration(summary),
        _stress(summary),
        _training(history),
        _validation(validation),
        _split(audit),
        _mistakes(predictions),
        page.section("Configuration", f"<pre>{escape(config_text)}</pre>") if config_text else "",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{page.CSS}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


# Sections


def _warning(marks: Sequence[str]) -> str:
    if not marks:
        return ""
    lines = (f"{page.mark_labels([mark])} {escape(MEANINGS.get(mark, ''))}" for mark in marks)
    return f'<p class="warning">{"<br>".join(lines)}</p>'


def _headline(summary: Mapping[str, Any]) -> str:
    cards = []
    for name, key in (("UAR", "uar"), ("Accuracy", "accuracy"), ("Macro-F1", "macro_f1")):
        figure = summary[key]
        ends = (
            f"95 %: {format_figure(figure['low'])} to {format_figure(figure['high'])}"
            if figure["low"] is not None
            else f"no interval: too few {summary['interval_unit']}s"
        )
        cards.append(
            f'<div class="card{" first" if key == "uar" else ""}">{name}'
            f"<b>{format_figure(figure['value'])}</b>"
            f'<span class="soft">{ends}</span><br>{page.mark_labels(summary["marks"])}</div>'
        )
    seeds = zip(summary["seeds"], summary["uar"]["per_seed"], strict=False)
    rows = [[escape(name), escape(value)] for name, value in metadata_rows(summary).items()]
    if len(summary["seeds"]) > 1:
        each = ", ".join(f"{format_figure(value)} (seed {seed})" for seed, value in seeds)
        rows.insert(0, ["UAR by seed", each])
    notes = "".join(f"<li>{escape(note)}</li>" for note in summary["notes"])
    return (
        f'<div class="cards">{"".join(cards)}</div>'
        + page.table([], rows)
        + (f"<ul>{notes}</ul>" if notes else "")
        + f'<p class="soft">UAR is the mean of the classes\' recalls. {LIMITS}</p>'
    )


def _classes(summary: Mapping[str, Any]) -> str:
    rows = [
        [
            escape(name),
            page.number(summary["support"][name]),
            format_figure(value),
            page.bar(value),
            *(
                format_figure(summary[what][name])
                for what in ("precision", "f1")
                if what in summary
            ),
            page.mark_labels(summary["marks"]),
        ]
        for name, value in summary["recall"].items()
    ]
    more = [title for title in ("Precision", "F1") if "precision" in summary]
    drawn = draw.confusion_figure(summary["confusion"], summary["classes"])
    pooled = ", summed over seeds" if len(summary["seeds"]) > 1 else ""
    return page.section(
        "Classes",
        page.table(["Class", "Clips", "Recall", "", *more, "Marks"], rows)
        + page.figure(drawn, f"Confusion matrix: clips{pooled}, and share of the true class."),
    )


def _validation(predictions: Predictions | None) -> str:
    """The part on which the epoch and the temperature were chosen: its figures are too high."""
    if predictions is None or not len(predictions):
        return ""
    classes = predictions.emotions
    counts = metrics.confusion_matrix(predictions.labels, predictions.predicted, len(classes))
    rows = [
        [escape(name), page.number(int(size)), format_figure(share), page.bar(share)]
        for name, size, share in zip(
            classes, counts.sum(1), _finite(metrics.recalls_of(counts)), strict=True
        )
    ]
    uar, accuracy = float(metrics.uar_of(counts)), float(metrics.accuracy_of(counts))
    words = (
        f"<p>UAR {format_figure(uar)}, accuracy {format_figure(accuracy)} of {len(predictions)} "
        "clips. The epoch and the temperature were chosen on these clips, so that these are no "
        "results.</p>"
    )
    drawn = draw.confusion_figure(counts, classes)
    text = "Confusion matrix of the validation part: clips, and share of the true class."
    return page.section(
        "Validation part",
        words + page.table(["Class", "Clips", "Recall", ""], rows) + page.figure(drawn, text),
    )


def _finite(values: NDArray[np.floating]) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _sexes(summary: Mapping[str, Any]) -> str:
    if not summary["per_sex"]:
        return ""
    head = ["Sex", "Speakers", "Clips", "UAR [95 %]", *map(escape, summary["classes"]), "Marks"]
    rows = [
        [
            escape(name),
            page.number(row["speakers"]),
            page.number(row["n"]),
            format_figure(row["uar"]),
            *(format_figure(value) for value in row["recall"].values()),
            page.mark_labels(row["marks"]),
        ]
        for name, row in summary["per_sex"].items()
    ]
    return page.section("By sex", page.table(head, rows, caption="UAR, and recall of each class."))


def _speakers(summary: Mapping[str, Any]) -> str:
    if not summary["per_speaker"]:
        text = "<p>The speakers of these clips are unknown; the intervals are by clip.</p>"
        return page.section("By speaker", text)
    rows = [
        [
            escape(name),
            page.number(row["n"]),
            format_figure(row["uar"]),
            page.bar(row["uar"]),
            page.mark_labels(row["marks"]),
        ]
        for name, row in sorted(summary["per_speaker"].items(), key=lambda item: -item[1]["uar"])
    ]
    return page.section("By speaker", page.table(["Speaker", "Clips", "UAR", "", "Marks"], rows))


def _calibration(summary: Mapping[str, Any]) -> str:
    drawn = draw.reliability_figure(summary["reliability"], ece=summary["ece"])
    text = (
        "Expected calibration error, over 15 bins of confidence: the mean distance between how "
        "sure the model was and how often it was right."
    )
    labels = page.mark_labels(summary["marks"])
    error = f"<p>ECE <b>{format_figure(summary['ece'])}</b> {labels}</p>"
    return page.section("Calibration", error + page.figure(drawn, text))


def _stress(summary: Mapping[str, Any]) -> str:
    """UAR under each condition, drawn and as a table."""
    stress: Mapping[str, Mapping[str, Any]] = summary.get("stress", {})
    if not stress:
        return ""
    rows = [
        [
            escape(name),
            format_figure(figures["uar"]),
            format_figure(figures["accuracy"]),
            page.mark_labels(summary["marks"]),
        ]
        for name, figures in stress.items()
    ]
    text = "UAR on the same clips, degraded: seeded draws of noise, rooms and babble for each clip."
    return page.section(
        "Stress",
        page.table(["Condition", "UAR [95 %]", "Accuracy [95 %]", "Marks"], rows)
        + page.figure(stress_figure(stress), text),
    )


def _training(history: Mapping[str, Sequence[float]] | None) -> str:
    if not history:
        return ""
    text = "By epoch, on the training and the validation part; the test part has none."
    return page.section("Training", page.figure(draw.curves_figure(history), text))


def _split(audit: Mapping[str, Any] | None) -> str:
    if not audit:
        return ""
    parts: Mapping[str, Mapping[str, Any]] = audit["parts"]
    counts = {name: dict(part.get("classes", {})) for name, part in parts.items()}
    present = {emotion for row in counts.values() for emotion in row}
    emotions = [e for e in VOCABULARY if e in present] + sorted(present - set(VOCABULARY))
    rows = []
    for name, part in parts.items():
        speakers = part["speakers"]
        many = speakers if isinstance(speakers, int) else len(speakers)
        by_class = [page.number(counts[name].get(emotion, 0)) for emotion in emotions]
        rows.append([escape(name), page.number(many), page.number(part["clips"]), *by_class])
    text = page.table(["Part", "Speakers", "Clips", *map(escape, emotions)], rows)
    for name, part in parts.items():
        if not isinstance(part["speakers"], int) and part["speakers"]:
            names = ", ".join(speaker or "unknown" for speaker in part["speakers"])
            text += f"<p><b>{escape(name)}:</b> {escape(names)}</p>"
    duplicates = audit.get("duplicates", [])
    items = "".join(f"<li>{escape(', '.join(map(str, group)))}</li>" for group in duplicates)
    notes = "".join(f"<p>{escape(note)}</p>" for note in audit.get("notes", []))
    text += f"<p>Split hash: <code>{escape(str(audit.get('split_hash', '')))}</code></p>{notes}"
    text += f"<p>Groups of duplicate recordings: {len(duplicates)}.</p>"
    text += f"<ul>{items}</ul>" if items else ""
    if emotions:
        text += page.figure(draw.class_counts_figure(counts), "Clips of each class in each part.")
    return page.section("Split", text)


def _mistakes(predictions: Predictions) -> str:
    guess, sure = predictions.predicted, predictions.probabilities.max(1)
    wrong = np.flatnonzero(guess != predictions.labels)
    order = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    if not order.size:
        return ""
    rows = [
        [
            escape(predictions.clip_ids[i]),
            escape(predictions.emotions[predictions.labels[i]]),
            escape(predictions.emotions[guess[i]]),
            format_figure(float(sure[i])),
        ]
        for i in order.tolist()
    ]
    return page.section(
        "Surest mistakes", page.table(["Clip", "Labelled", "Predicted", "Confidence"], rows)
    )
