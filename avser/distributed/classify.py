"""Worker that classifies a part of a job, for every engine.

A clip that can't be read gives a row with its error, and so does a clip that ends the process (a
crash of a decoder, lack of memory). A part whose worker has ended twice is processed clip by clip
in another process, so that only that clip fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from avser.distributed.folder import Folder
from avser.distributed.parts import Part, inputs_of
from avser.inference.settings import ClassifySettings
from avser.inference.writers import Row, write_parquet

WORKER = f"{__name__}:ClassifyWorker"

_ATTEMPTS = 2  # of a part, before it is done clip by clip


class Classifier:
    """Rows of files.

    Args:
        settings: as `ClassifySettings.to_dict` gives them.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = ClassifySettings.from_dict(settings)
        self._predictor = self._settings.predictor()

    def rows(self, paths: Sequence[str]) -> Iterator[Row]:
        """Classify files in order."""
        for result in self._settings.classify(self._predictor, paths):
            yield result.to_dict()


class ClassifyWorker:
    """Classifies a part and writes its file.

    Args:
        settings: of `Classifier`, with ``out`` (folder of the job), ``directory`` (that relative
            paths begin at) and ``classifier`` (its class, as ``module:Class``).
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._folder = Folder(settings["out"])
        self._classifier: Any = None
        with suppress(OSError):  # on another machine: absolute paths and addresses are the same
            os.chdir(settings["directory"])

    def __call__(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        """Classify the part of ``name`` and ``offset``; return its numbers of rows."""
        part = Part(item["name"], item["offset"])
        paths = inputs_of(self._folder, part)
        attempt = f"{part.name}.attempts"
        if (count := self._attempts(attempt)) < _ATTEMPTS:
            with self._folder.write(attempt) as file:
                file.write(str(count + 1).encode())
            try:
                self._classifier = self._classifier or _classifier(self._settings)
                rows = list(self._classifier.rows(paths))
            except BaseException:  # the process goes on, so that the attempt does not count
                self._folder.remove(attempt)
                raise
        else:
            rows = list(rows_apart(paths, self._settings))
        with self._folder.write(part.name) as file:
            write_parquet(rows, file)
        self._folder.remove(attempt)
        return {"name": part.name, "rows": len(rows), "failed": sum("error" in r for r in rows)}

    def _attempts(self, name: str) -> int:
        """How often a part was begun and not finished."""
        try:
            with self._folder.read(name) as file:
                return int(file.read() or 0)
        except FileNotFoundError:
            return 0


def _classifier(settings: Mapping[str, Any]) -> Any:  # noqa: ANN401 (a Classifier, or a test's)
    module, _, name = settings.get("classifier", f"{__name__}:Classifier").partition(":")
    return getattr(import_module(module), name)(settings)


def rows_apart(paths: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Row]:
    """Rows of files, made in a process apart; one that ends it has a row with that error."""
    process: subprocess.Popen[str] | None = None
    try:
        for path in paths:
            if process is None:
                process = _start(settings)
            row = _ask(process, path)
            if row is None:
                code = process.wait()
                _close(process)
                process = None
                message = (
                    f"Can't classify {path}: the process that read it ended (exit code {code}); "
                    "leave it out, or repair the file."
                )
                row = {"path": path, "error": {"type": "MediaError", "message": message}}
            yield row
    finally:
        if process is not None:
            _close(process)


def _start(settings: Mapping[str, Any]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with suppress(BrokenPipeError):
        assert process.stdin is not None
        process.stdin.write(json.dumps(dict(settings)) + "\n")
    return process


def _ask(process: subprocess.Popen[str], path: str) -> Row | None:
    """The row of a file; None if the process ended."""
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(path) + "\n")
        process.stdin.flush()
    line = process.stdout.readline()
    row: Row | None = json.loads(line) if line else None
    return row


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
    process.wait()


def main() -> int:
    """Settings and paths on standard input, a row each on standard output, as JSON lines."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    classifier = _classifier(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        for row in classifier.rows([json.loads(line)]):
            print(json.dumps(row), file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
