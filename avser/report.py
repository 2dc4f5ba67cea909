"""A run's report: one HTML page that holds all it shows, and ``results.json`` beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from avser import draw
from avser.evaluation import MEANINGS, Outcomes
from avser.files import atomic_write
from avser.tables import facts, percent

MISTAKES = 20  # rows: enough to listen to, few enough to read

NUMBER = re.compile(r"–|[\d.,]+( \[.*\])?")  # also with its interval

LIMITS = (
    "Figures hold for this corpus, this split and these speakers. Acted emotion differs from felt "
    "emotion, and voices and faces differ between cultures, ages and accents: measure again "
    "before use elsewhere. An answer is an estimate of expressed emotion, not of a state of mind."
)

CSS = """
:root { color-scheme: light dark; --ink: #22262b; --soft: #5d6670; --line: #d9dde2;
  --paper: #fff; --card: #f5f6f8; --bar: #3569b0; --loud: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #a3abb4; --line: #3a4048;
  --paper: #16191d; --card: #21252b; --bar: #6f9fe0; --loud: #d0453c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; border-bottom: 1px solid var(--line);
  padding-bottom: .25rem; }
p, li { max-width: 46rem; }
.soft, caption, th { color: var(--soft); }
.mark { display: inline-block; background: var(--loud); color: #fff; font-weight: 700;
  font-size: .72rem; letter-spacing: .03em; padding: .05rem .4rem; border-radius: .2rem;
  margin: 0 .2rem 0 0; white-space: nowrap; }
.alarm { border: 2px solid var(--loud); border-radius: .4rem; padding: .5rem .8rem;
  line-height: 2; }
.alarm .mark { font-size: 1rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; }
.card { background: var(--card); border-radius: .5rem; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.9rem; line-height: 1.25; }
.card.first { outline: 2px solid var(--bar); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { text-align: left; padding: .22rem .9rem .22rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { width: 11rem; min-width: 6rem; padding-right: 0; }
.bar i { display: block; height: .8rem; margin-top: .3rem; background: var(--bar);
  border-radius: .15rem; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
figure { margin: .75rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: .4rem; }
figcaption { color: var(--soft); font-size: .85rem; max-width: 46rem; }
pre { background: var(--card); padding: .8rem 1rem; border-radius: .4rem; overflow-x: auto;
  font-size: .8rem; line-height: 1.4; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } pre { white-space: pre-wrap; }
  figure, .card, tr { break-inside: avoid; } h2 { break-after: avoid; }
  .mark, .card { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def write_report(
    folder: str | Path,
    summary: Mapping[str, Any],
    *,
    outcomes: Outcomes | Sequence[Outcomes],
    history: Mapping[str, Sequence[float]] | None = None,
    audit: Mapping[str, Any] | None = None,
    config_text: str | None = None,
) -> Path:
    """Write ``report.html`` and ``results.json`` into a folder, each all or nothing.

    Args:
        folder: where to; it is made if need be.
        summary: what `avser.evaluation.summarise` returned.
        outcomes: that were summarised; the surest mistakes are listed from the first.
        history: training curves, as `avser.draw.curves_figure` takes them.
        audit: of the split: ``{"split_hash", "notes", "parts": {part: {"clips", "speakers",
            "classes"}}, "duplicates": [[clip, clip], ...]}``.
        config_text: the run's configuration.

    Returns:
        The path of the page.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    first = outcomes if isinstance(outcomes, Outcomes) else outcomes[0]
    page = page_of(summary, outcomes=first, history=history, audit=audit, config_text=config_text)
    with atomic_write(place / "results.json") as file:
        file.write(json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    with atomic_write(place / "report.html") as file:
        file.write(page)
    return place / "report.html"


def page_of(
    summary: Mapping[str, Any],
    *,
    outcomes: Outcomes,
    history: Mapping[str, Sequence[float]] | None = None,
    audit: Mapping[str, Any] | None = None,
    config_text: str | None = None,
) -> str:
    """Return the page as text; it refers to nothing outside itself."""
    title = f"{summary['model']} on {summary['corpus']}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(summary["protocol"])}, split {escape(summary["split_hash"])}</p>',
        _alarm(summary["marks"]),
        _headline(summary),
        _classes(summary),
        _sexes(summary),
        _speakers(summary),
        _calibration(summary),
        _training(history),
        _split(audit),
        _mistakes(outcomes),
        _section("Configuration", f"<pre>{escape(config_text)}</pre>") if config_text else "",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


# Sections


def _alarm(marks: Sequence[str]) -> str:
    if not marks:
        return ""
    lines = (f"{_marks([mark])} {escape(MEANINGS.get(mark, ''))}" for mark in marks)
    return f'<p class="alarm">{"<br>".join(lines)}</p>'


def _headline(summary: Mapping[str, Any]) -> str:
    cards = []
    for name, key in (("UAR", "uar"), ("Accuracy", "accuracy"), ("Macro-F1", "macro_f1")):
        figure = summary[key]
        ends = (
            f"95 %: {percent(figure['low'])} to {percent(figure['high'])}"
            if figure["low"] is not None
            else f"no interval: fewer than 2 {summary['interval_unit']}s"
        )
        cards.append(
            f'<div class="card{" first" if key == "uar" else ""}">{name}'
            f"<b>{percent(figure['value'])} %</b>"
            f'<span class="soft">{ends}</span><br>{_marks(summary["marks"])}</div>'
        )
    seeds = zip(summary["seeds"], summary["uar"]["per_seed"], strict=False)
    rows = [[escape(name), escape(value)] for name, value in facts(summary).items()]
    if len(summary["seeds"]) > 1:
        each = ", ".join(f"{percent(value)} (seed {seed})" for seed, value in seeds)
        rows.insert(0, ["UAR by seed, %", each])
    notes = "".join(f"<li>{escape(note)}</li>" for note in summary["notes"])
    return (
        f'<div class="cards">{"".join(cards)}</div>'
        + _table([], rows)
        + (f"<ul>{notes}</ul>" if notes else "")
        + f'<p class="soft">UAR is the mean of the classes\' recalls. {LIMITS}</p>'
    )


def _classes(summary: Mapping[str, Any]) -> str:
    rows = [
        [escape(name), _number(summary["support"][name]), percent(value), _bar(value), loud]
        for (name, value), loud in zip(
            summary["recall"].items(),
            [_marks(summary["marks"])] * len(summary["recall"]),
            strict=True,
        )
    ]
    figure = draw.confusion_figure(summary["confusion"], summary["classes"])
    pooled = ", summed over seeds" if len(summary["seeds"]) > 1 else ""
    return _section(
        "Classes",
        _table(["Class", "Clips", "Recall, %", "", "Marks"], rows)
        + _figure(figure, f"Confusion matrix: clips{pooled}, and share of the true class."),
    )


def _sexes(summary: Mapping[str, Any]) -> str:
    if not summary["per_sex"]:
        return ""
    head = ["Sex", "Speakers", "Clips", "UAR, % [95 %]", *map(escape, summary["classes"]), "Marks"]
    rows = [
        [
            escape(name),
            _number(row["speakers"]),
            _number(row["n"]),
            percent(row["uar"]),
            *(percent(value) for value in row["recall"].values()),
            _marks(row["marks"]),
        ]
        for name, row in summary["per_sex"].items()
    ]
    return _section("By sex", _table(head, rows, caption="UAR, and recall of each class in %."))


def _speakers(summary: Mapping[str, Any]) -> str:
    if not summary["per_speaker"]:
        text = "<p>The speakers of these clips are unknown; the intervals are by clip.</p>"
        return _section("By speaker", text)
    rows = [
        [
            escape(name),
            _number(row["n"]),
            percent(row["uar"]),
            _bar(row["uar"]),
            _marks(row["marks"]),
        ]
        for name, row in sorted(summary["per_speaker"].items(), key=lambda item: -item[1]["uar"])
    ]
    return _section("By speaker", _table(["Speaker", "Clips", "UAR, %", "", "Marks"], rows))


def _calibration(summary: Mapping[str, Any]) -> str:
    figure = draw.reliability_figure(summary["reliability"], ece=summary["ece"])
    text = (
        "Expected calibration error, over 15 bins of confidence: the mean distance between how "
        "sure the model was and how often it was right."
    )
    words = f"<p>ECE <b>{percent(summary['ece'])} %</b> {_marks(summary['marks'])}</p>"
    return _section("Calibration", words + _figure(figure, text))


def _training(history: Mapping[str, Sequence[float]] | None) -> str:
    if not history:
        return ""
    text = "Loss and UAR by epoch on the training and the validation part; the test part has none."
    return _section("Training", _figure(draw.curves_figure(history), text))


def _split(audit: Mapping[str, Any] | None) -> str:
    if not audit:
        return ""
    parts: Mapping[str, Mapping[str, Any]] = audit["parts"]
    counts = {name: dict(part.get("classes", {})) for name, part in parts.items()}
    emotions = list(dict.fromkeys(emotion for row in counts.values() for emotion in row))
    rows = []
    for name, part in parts.items():
        speakers = part["speakers"]
        many = speakers if isinstance(speakers, int) else len(speakers)
        by_class = [_number(counts[name].get(emotion, 0)) for emotion in emotions]
        rows.append([escape(name), _number(many), _number(part["clips"]), *by_class])
    text = _table(["Part", "Speakers", "Clips", *map(escape, emotions)], rows)
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
        text += _figure(draw.class_counts_figure(counts), "Clips of each class in each part.")
    return _section("Split", text)


def _mistakes(outcomes: Outcomes) -> str:
    guess, sure = outcomes.predicted, outcomes.probabilities.max(1)
    wrong = np.flatnonzero(guess != outcomes.labels)
    order = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    if not order.size:
        return ""
    rows = [
        [
            escape(outcomes.clip_ids[i]),
            escape(outcomes.emotions[outcomes.labels[i]]),
            escape(outcomes.emotions[guess[i]]),
            percent(float(sure[i])),
        ]
        for i in order.tolist()
    ]
    return _section("Surest mistakes", _table(["Clip", "Labelled", "Predicted", "Sure, %"], rows))


# Pieces


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _marks(marks: Sequence[str]) -> str:
    return "".join(f'<span class="mark">{escape(mark)}</span>' for mark in marks)


def _number(value: float) -> str:
    return f"{value:,g}" if value % 1 else f"{int(value):,}"


def _bar(share: float | None) -> str:
    return f'<i style="width: {100 * (share or 0):.1f}%"></i>'


def _figure(figure: Figure, text: str) -> str:
    image = f'<img src="{draw.to_data_uri(figure)}" alt="{escape(text)}" {_size(figure)}>'
    return f"<figure>{image}<figcaption>{escape(text)}</figcaption></figure>"


def _size(figure: Figure) -> str:
    width, height = figure.get_size_inches()
    return f'width="{round(96 * width)}" height="{round(96 * height)}"'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
    """Make a table of cells that are HTML already; figures stand right, empty columns fall."""
    rows = [list(row) for row in rows]
    kinds = [_kind(column) if i else "name" for i, column in enumerate(zip(*rows, strict=True))]
    keep = [i for i, kind in enumerate(kinds) if kind != "empty"]

    def line(cells: Sequence[str], tag: str) -> str:
        inner = (f'<{tag} class="{kinds[i]}">{cells[i]}</{tag}>' for i in keep)
        return f"<tr>{''.join(inner)}</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if head and rows else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>{title}{top}<tbody>\n{body}\n</tbody></table></div>'


def _kind(cells: Sequence[str]) -> str:
    if not any(cells):
        return "empty"
    if all(cell.startswith("<i ") for cell in cells):
        return "bar"
    return "n" if all(NUMBER.fullmatch(cell) for cell in cells) else "words"
