"""Progress bars, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def decoding() -> Iterator[Callable[[int, int], None]]:
    """Show a bar while clips are decoded; nothing if all are in the cache."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("decoding", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)

    def show(done: int, total: int) -> None:
        if not bar.tasks:
            bar.start()  # not before: the end of a bar writes an empty line
            bar.add_task("", total=total)
        bar.update(bar.tasks[0].id, completed=done)

    try:
        yield show
    finally:
        if bar.tasks:
            bar.stop()
