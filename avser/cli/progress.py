"""Progress bars, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def decoding() -> Iterator[Callable[[int, int], None]]:
    """Show a bar while clips are decoded; nothing if all are in the cache."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("decoding", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task: list[int] = []

        def show(done: int, total: int) -> None:
            if not task:
                task.append(bar.add_task("", total=total))
            bar.update(task[0], completed=done)  # type: ignore[arg-type]

        yield show
