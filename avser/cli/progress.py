"""Progress bars, on stderr."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from avser.errors import escape_controls
from avser.evaluation.numbers import format_figure

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from avser.federated.simulation.run import Progress as FederatedProgress


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal from the first call of what it gives, ``(done, total)``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True)

    def show(done: int, total: int) -> None:
        if not console.is_terminal:
            return
        if not bar.tasks:
            bar.start()  # not before: the end of a bar writes an empty line
            bar.add_task("", total=total)
        bar.update(bar.tasks[0].id, completed=done)

    try:
        yield show
    finally:
        if bar.tasks:
            bar.stop()


class ClassifyProgress:
    """Bars and result lines of a classification; made by `classifying`.

    Attributes:
        ascii_only: whether standard output lacks the characters of bars.
    """

    def __init__(self, bar: "Progress | None", total: int | None) -> None:
        self._bar = bar
        self._files = bar.add_task("clips", total=total) if bar is not None and total != 1 else None
        self._long: dict[str, TaskID] = {}
        self.ascii_only = not encodes("█▏", sys.stdout.encoding)

    def reading(self, path: str, now_s: float, end_s: float | None) -> None:
        """Show how far a file is read; files of more than a minute get a bar of their own."""
        if self._bar is None or end_s is None or end_s < 60:
            return
        if path not in self._long:
            name = path if len(path) < 40 else f"…{path[-39:]}"
            self._long[path] = self._bar.add_task(escape_controls(name), total=end_s)
        self._bar.update(self._long[path], completed=now_s)
        if now_s >= end_s:
            self._bar.remove_task(self._long.pop(path))

    def done(self) -> None:
        """Count one more file."""
        if self._bar is not None and self._files is not None:
            self._bar.advance(self._files)

    def print(self, lines: Sequence[str]) -> None:
        """Print lines to standard output; on the terminal of the bars they go above these."""
        for line in lines:
            self._print(line, sys.stdout)
        sys.stdout.flush()

    def warn(self, line: str) -> None:
        """Print a line to standard error."""
        self._print(line, sys.stderr)

    def _print(self, line: str, stream: TextIO) -> None:
        line = escape_controls(line)  # names of files may hold line breaks
        if self._bar is not None and stream.isatty():
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=stream)


def encodes(characters: str, encoding: str | None) -> bool:
    """Whether an encoding has these characters.

    >>> encodes("█", "cp1252"), encodes("█", "utf-8")
    (False, True)
    """
    try:
        characters.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


@contextmanager
def classifying(total: int | None, *, quiet: bool) -> Iterator[ClassifyProgress]:
    """Show a bar over the files, and one for each long file, with the time left.

    Args:
        total: number of files; None where it is not known.
        quiet: whether there are no bars.
    """
    if quiet or not sys.stderr.isatty():
        yield ClassifyProgress(None, total)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    # standard output is left alone: rich would take what is piped elsewhere
    bar = Progress(
        TextColumn("{task.description}", markup=False),  # it may be the name of a file
        BarColumn(),
        MofNCompleteColumn() if total != 1 else TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with bar:
        yield ClassifyProgress(bar, total)


@contextmanager
def rounds(total: int, console: "Console") -> Iterator["FederatedProgress"]:
    """Show bars over the rounds of a federated training and over the replies of each."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from avser.federated.simulation.run import Progress as FederatedProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=console, transient=True) as bar:
        whole = bar.add_task("rounds", total=total)
        part = bar.add_task("replies", total=None)

        def show_round(row: Mapping[str, Any]) -> None:
            bar.update(whole, completed=int(row["update"]))
            bar.update(part, completed=0, total=row["asked"])
            if row.get("warning"):
                bar.console.print(f"privacy: {row['warning']}", highlight=False)
            if "uar" in row:
                text = f"round {row['update']}: UAR {format_figure(row['uar'])}"
                bar.console.print(text, highlight=False)

        def stage(name: str, count: int) -> None:
            bar.update(whole, description=name, completed=0, total=1)
            bar.update(part, description="epochs", completed=0, total=count)

        yield FederatedProgress(round=show_round, reply=lambda: bar.advance(part), stage=stage)
