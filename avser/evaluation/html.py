"""Pieces of a page of figures: style, sections, tables, bars, pictures, all as HTML text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from matplotlib.figure import Figure

from avser.visualization import plots as draw

NUMBER = re.compile(r"–|[\d.,]+( \[.*\])?")  # also with its interval

CSS = """
:root { color-scheme: light dark; --ink: #22262b; --soft: #5d6670; --line: #d9dde2;
  --paper: #fff; --card: #f5f6f8; --bar: #3569b0; --warning: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #a3abb4; --line: #3a4048;
  --paper: #16191d; --card: #21252b; --bar: #6f9fe0; --warning: #d0453c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; border-bottom: 1px solid var(--line);
  padding-bottom: .25rem; }
p, li { max-width: 46rem; }
.soft, caption, th { color: var(--soft); }
.mark { display: inline-block; background: var(--warning); color: #fff; font-weight: 700;
  font-size: .72rem; letter-spacing: .03em; padding: .05rem .4rem; border-radius: .2rem;
  margin: 0 .2rem 0 0; white-space: nowrap; }
.warning { border: 2px solid var(--warning); border-radius: .4rem; padding: .5rem .8rem;
  line-height: 2; }
.warning .mark { font-size: 1rem; }
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


def section(title: str, content: str) -> str:
    """Make a section of a page."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def mark_labels(marks: Sequence[str]) -> str:
    """Make the labels of marks such as RANDOM SPLIT."""
    return "".join(f'<span class="mark">{escape(mark)}</span>' for mark in marks)


def number(value: float) -> str:
    """Write a count; a mean of counts with its decimals."""
    return f"{value:,g}" if value % 1 else f"{int(value):,}"


def bar(share: float | None) -> str:
    """Make a bar as long as a share of 1."""
    return f'<i style="width: {100 * (share or 0):.1f}%"></i>'


def figure(drawn: Figure, text: str) -> str:
    """Make a picture with its caption."""
    image = f'<img src="{draw.to_data_uri(drawn)}" alt="{escape(text)}" {_size(drawn)}>'
    return f"<figure>{image}<figcaption>{escape(text)}</figcaption></figure>"


def _size(figure: Figure) -> str:
    width, height = figure.get_size_inches()
    return f'width="{round(96 * width)}" height="{round(96 * height)}"'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
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
