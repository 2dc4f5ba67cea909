"""Writing that never leaves half a file.

A reader sees the old file or the whole new one: the text or bytes go to a temporary name in the
same folder (so that the last step is a rename inside one file system), are flushed to the disk,
and take the place of the old file in one step. After an error nothing is left behind.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

_PERMISSIONS = 0o666  # as open() asks; the temporary file is made private and then gets these


@contextmanager
def atomic_write(path: str | Path, *, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that takes its name only when the block ends without an error.

    Missing folders are made. Text is UTF-8, its lines end with a line feed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    text = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    try:
        with open(handle, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, _PERMISSIONS & ~mask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(where: str | Path | None, content: object) -> None:
    """Write one JSON value to a file, or print it where that is "-"; None is nowhere."""
    text = json.dumps(content, indent=1)
    if where == "-":
        print(text)
    elif where is not None:
        with atomic_write(where) as file:
            file.write(text + "\n")


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a file of JSON objects; none where it is missing.

    Half a line, of a process that was killed while it wrote, is passed over.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue
