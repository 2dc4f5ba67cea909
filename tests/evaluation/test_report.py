import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avser.evaluation.numbers import format_figure
from avser.evaluation.paper import ReportTable, tables_of
from avser.evaluation.report import page_of, write_report
from avser.evaluation.summary import Predictions, summarise

EMOTIONS = ("neutral", "happy", "sad")
EVIL = '<script>alert("x")</script>&'
VOID = {"meta", "img", "br"}


class Tags(HTMLParser):
    """Collects tags and text, and refuses tags that do not close."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.names: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert tags.open == []
    return tags


def make(*, seen: bool = False, known: bool = True, name: str = "x") -> Predictions:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 36)
    return Predictions(
        clip_ids=[f"{name}/{i}" for i in range(36)],
        speakers=[f"{name}/{i % 6:02d}" if known else "" for i in range(36)],
        sexes=["female" if i % 2 else "male" for i in range(36)],
        labels=np.arange(36) // 12,
        probabilities=probabilities,
        emotions=EMOTIONS,
        seen=[seen and i % 6 == 4 for i in range(36)],
    )


def summary_of(predictions: Predictions, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "split": "speaker_kfold, 5 folds",
        "corpus": "tiny",
        "label_target": "acted",
        "split_hash": "1a2b3c4d",
        "model": "lrcn",
        "parameters": 1234567,
        "seeds": [0],
        "epochs": [12],
        "commit": "abc1234",
    }
    return summarise(predictions, **{**given, **changes})


AUDIT = {
    "split_hash": "1a2b3c4d",
    "notes": ["Validation is taken by sentence."],
    "parts": {
        "train": {"clips": 24, "speakers": ["x/00", "x/01"], "classes": {"sad": 4, "happy": 20}},
        "test": {"clips": 12, "speakers": ["x/02"], "classes": {"happy": 12}},
    },
    "duplicates": [["x/1", "x/7"]],
}
HISTORY = {"train/loss": [1.0, 0.5], "validation/loss": [1.1, 0.9], "validation/uar": [0.4, 0.5]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run") / "new"
    predictions = make()
    write_report(
        place,
        summary_of(predictions),
        predictions=predictions,
        history=HISTORY,
        audit=AUDIT,
        config_text="seed_everything: 0",
        figures=("pdf", "svg"),
    )
    return place


def test_a_page_and_its_figures_are_all_there_is(folder: Path) -> None:
    names = ["figures", "report.html", "results.json", "tables"]
    assert sorted(path.name for path in folder.iterdir()) == names
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results == summary_of(make())


def test_figures_are_as_wide_as_a_column_and_their_text_is_text(folder: Path) -> None:
    figures = sorted(path.name for path in (folder / "figures").iterdir())
    names = ("classes", "confusion", "curves", "reliability")
    assert figures == sorted(f"{name}.{end}" for name in names for end in ("pdf", "svg"))
    for name in names:
        pdf = (folder / "figures" / f"{name}.pdf").read_bytes()
        width = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf)
        assert width is not None and float(width[1]) == pytest.approx(3.3 * 72, abs=0.5)
        assert b"/Subtype /Type3" not in pdf and b"/CIDFontType2" in pdf  # what journals embed


def test_tables_stand_beside_the_page_as_csv_and_latex(folder: Path) -> None:
    summary = summary_of(make())
    tables = {path.name for path in (folder / "tables").iterdir()}
    names = ("summary", "classes", "confusion", "speakers", "sexes")
    assert tables == {f"{name}.{end}" for name in names for end in ("csv", "tex")}
    with (folder / "tables" / "summary.csv").open(encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert first["Figure"] == "UAR"
    ends = [float(first[name]) for name in ("Value", "Value low", "Value high")]
    assert ends == [summary["uar"][key] for key in ("value", "low", "high")]
    tex = (folder / "tables" / "classes.tex").read_text()
    assert "\\begin{tabular}{lrrrr}" in tex and "speaker\\_kfold, 5 folds" in tex
    assert f"    happy & 12 & {format_figure(summary['recall']['happy'])} & " in tex


def test_marks_stand_in_the_caption_of_every_table() -> None:
    summary = summary_of(make(seen=True), split="random, by clip")
    for table in tables_of(summary).values():
        assert "RANDOM SPLIT" in table.to_latex("x") and "SEEN SPEAKERS" in table.caption


def test_names_are_escaped_for_latex() -> None:
    name = r"50 % of {a}_b & \c #1 ~ ^ $"
    tex = ReportTable(name, ("Class",), ((name,),)).to_latex("x")
    escaped = r"50 \% of \{a\}\_b \& \textbackslash{}c \#1 \textasciitilde{} \textasciicircum{} \$"
    assert tex.count(escaped) == 2


def test_page_refers_to_nothing_outside(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    tags = read(page)
    assert {"script", "link", "iframe"}.isdisjoint(tags.names)
    assert tags.names.count("img") == 4  # confusion, reliability, curves, class counts
    assert all(link.startswith("data:image/png;base64,") for link in tags.links)
    assert not re.search(r"https?:|@import|url\(", page)


def test_page_says_all_that_a_reader_needs(folder: Path) -> None:
    text = read((folder / "report.html").read_text(encoding="utf-8")).text
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    uar = results["uar"]
    assert f".{1000 * uar['value']:.0f}95 %: .{1000 * uar['low']:.0f} to" in text
    for word in (
        "1,234,567 parameters",
        "1a2b3c4d",
        "abc1234",
        "bootstrap by speaker",
        "By sex",
        "x/05",
        "ECE",
        "Groups of duplicate recordings: 1.",
        "x/1, x/7",
        "Validation is taken by sentence.",
        "seed_everything: 0",
        "not of a state of mind",
    ):
        assert word in text
    assert text.index("UAR") < text.index("Accuracy") < text.index("Macro-F1")
    split = text[text.index("PartSpeakersClips") :]
    assert split.startswith("PartSpeakersClipshappysad")  # the classes' usual order


def test_marks_stand_on_top_and_on_every_line() -> None:
    predictions = make(seen=True)
    page = page_of(summary_of(predictions, split="random, by clip"), predictions=predictions)
    assert page.index("SEEN SPEAKERS") < page.index("UAR")
    lines = [line for line in page.splitlines() if line.startswith("<tr>")]
    for name in ("x/04", "happy", "male"):
        line = next(line for line in lines if f'"name">{name}</td>' in line)
        assert "SEEN SPEAKERS" in line
        assert "RANDOM SPLIT" in line
    other = next(line for line in lines if ">x/03</td>" in line)
    assert "SEEN SPEAKERS" not in other
    assert "RANDOM SPLIT" in other


def test_an_honest_page_has_no_marks() -> None:
    predictions = make()
    assert 'class="mark"' not in page_of(summary_of(predictions), predictions=predictions)


def test_markup_is_text() -> None:
    predictions = make(name=EVIL)
    summary = summary_of(
        predictions, corpus=EVIL, model=EVIL, split=EVIL, notes=[EVIL], commit=EVIL, marks=[EVIL]
    )
    audit = {
        "split_hash": EVIL,
        "notes": [EVIL],
        "parts": {EVIL: {"clips": 1, "speakers": [EVIL], "classes": {EVIL: 1}}},
        "duplicates": [[EVIL, EVIL]],
    }
    page = page_of(summary, predictions=predictions, audit=audit, config_text=f"</pre>{EVIL}")
    assert "<script" not in page
    tags = read(page)
    assert "script" not in tags.names
    assert tags.text.count(EVIL) > 15


def test_unknown_speakers_are_reported() -> None:
    predictions = make(known=False)
    text = read(page_of(summary_of(predictions), predictions=predictions)).text
    assert "The speakers of these clips are unknown; the intervals are by clip." in text


def test_surest_mistakes_come_first_and_are_wrong() -> None:
    predictions = make()
    page = page_of(summary_of(predictions), predictions=predictions)
    table = page[page.index("Surest mistakes") :]
    cells = (r'name">x/(\d+)', r'words">(\w+)', r'words">(\w+)', r'n">([\d.]+)')
    rows = re.findall('</td><td class="'.join(cells), table)
    assert rows
    sure = [float(each[3]) for each in rows]
    assert sure == sorted(sure, reverse=True)
    for clip, labelled, predicted, _ in rows:
        assert EMOTIONS[predictions.labels[int(clip)]] == labelled
        assert EMOTIONS[predictions.predicted[int(clip)]] == predicted != labelled


def test_several_seeds_are_listed() -> None:
    runs = [make(), make()]
    summary = summary_of(runs[0], model="one")
    assert "by seed" not in page_of(summary, predictions=runs[0])
    summary = summarise(runs, **{**_facts(summary), "seeds": [3, 4]})
    assert "(seed 4)" in page_of(summary, predictions=runs[0])


def _facts(summary: dict[str, Any]) -> dict[str, Any]:
    names = ("split", "corpus", "label_target", "split_hash", "model", "parameters", "commit")
    return {**{name: summary[name] for name in names}, "epochs": [1, 2]}


def test_the_validation_part_is_reported_and_is_called_no_result() -> None:
    predictions = make()
    summary = summary_of(predictions)
    assert "Validation part" not in page_of(summary, predictions=predictions)
    page = read(page_of(summary, predictions=predictions, validation=make(name="v")))
    assert "Validation part" in page.text and "these are no results" in page.text
    right = np.mean(make().predicted == make().labels)
    assert f"accuracy {right:.3f} of 36 clips".replace("0.", ".") in page.text


def test_precision_and_cost_are_shown() -> None:
    predictions = make()
    summary = summary_of(predictions)
    assert (
        set(summary["precision"]) == set(EMOTIONS) and 0 < summary["macro_precision"]["value"] < 1
    )
    summary["cost"] = {"minutes": 3.2, "threads": 2, "bytes": 1_500_000, "clips_per_second": 80.0}
    text = read(page_of(summary, predictions=predictions)).text
    assert "Recall" in text and "Precision" in text and "F1" in text
    assert "trained in 3.2 min on 2 threads, 1.50 MB, 80 clips/s" in text
