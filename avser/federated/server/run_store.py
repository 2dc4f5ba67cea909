"""The run folder: every accepted round on disk, and who was refused why.

``rounds/0007.safetensors`` holds the model after the seventh update, its average over rounds and
what the strategy remembers; ``rounds/0007.json`` its row, and is written last: a round without it
never was. ``ledger.jsonl`` has a line for everything that happened to a reply.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from avser.errors import CacheError
from avser.federated.weights import Arrays
from avser.files import atomic_write, json_lines


@dataclass(frozen=True, kw_only=True)
class StoredRound:
    """The model after an update.

    Attributes:
        update: its number; 0 is the start.
        model: global weights.
        average: their average over rounds.
        memory: what the strategy remembers.
        row: of the history.
    """

    update: int
    model: Arrays
    average: Arrays
    memory: Arrays = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)


class RunStore:
    """Reads and writes a run folder.

    Args:
        folder: of the run.
        last: how many rounds' weights to keep; None keeps all.
    """

    def __init__(self, folder: Path, *, last: int | None = None) -> None:
        self.folder, self.last = folder, last
        self._rounds = folder / "rounds"

    def save(self, kept: StoredRound) -> None:
        """Keep a round, all or nothing."""
        tensors = {
            f"{part}/{name}": np.ascontiguousarray(array)
            for part, arrays in (
                ("model", kept.model),
                ("average", kept.average),
                ("memory", kept.memory),
            )
            for name, array in arrays.items()
        }
        raw = save_tensors(tensors)
        with atomic_write(self._path(kept.update, "safetensors"), mode="wb") as file:
            file.write(raw)
        row = {**kept.row, "update": kept.update, "sha256": hashlib.sha256(raw).hexdigest()}
        with atomic_write(self._path(kept.update, "json")) as file:
            file.write(json.dumps(row) + "\n")
        if self.last is not None:
            for old in range(1, kept.update - self.last + 1):  # the start stays
                self._path(old, "safetensors").unlink(missing_ok=True)

    def latest(self) -> StoredRound | None:
        """The last whole round, or None."""
        for row in reversed(self.rows()):
            try:
                return self.load(int(row["update"]))
            except CacheError:
                continue  # its weights are damaged or gone: the one before will do
        return None

    def load(self, update: int) -> StoredRound:
        """Read a round.

        Raises:
            CacheError: it is not there, or damaged.
        """
        path = self._path(update, "safetensors")
        try:
            raw = path.read_bytes()
            row = json.loads(self._path(update, "json").read_text(encoding="utf-8"))
            if hashlib.sha256(raw).hexdigest() != row["sha256"]:
                raise ValueError("the hash does not match")
            tensors = load_tensors(raw)
        except Exception as error:  # safetensors raises its own untyped error
            raise CacheError(f"Bad round {path}: {error}; an earlier one is taken.") from error
        parts: dict[str, Arrays] = {"model": {}, "average": {}, "memory": {}}
        for name, array in tensors.items():
            part, _, key = name.partition("/")
            parts[part][key] = array
        return StoredRound(update=update, row=row, **parts)

    def rows(self) -> list[dict[str, Any]]:
        """Rows of all whole rounds, in order."""
        found = []
        for path in sorted(self._rounds.glob("*.json")):
            try:
                found.append(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError):
                continue
        return sorted(found, key=lambda row: int(row["update"]))

    def _path(self, update: int, suffix: str) -> Path:
        return self._rounds / f"{update:05d}.{suffix}"

    # -- ledger ------------------------------------------------------------------------------

    def note(self, what: str, **facts: object) -> None:
        """Add a line: "accepted", "refused", "capped", "late", "joined", "left", "abandoned"."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {"time": round(time.time(), 3), "what": what, **facts}
        with (self.folder / "ledger.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def ledger(self) -> Iterator[dict[str, Any]]:
        """All lines; half a line, of a server that was killed, is passed over."""
        return json_lines(self.folder / "ledger.jsonl")

    # -- single updates ----------------------------------------------------------------------

    def keep_update(self, update: int, client: str, delta: Arrays) -> None:
        """Keep what one client's update was, in half precision."""
        name = client.replace("/", "~")
        path = self.folder / "updates" / f"{update:05d}" / f"{name}.safetensors"
        with atomic_write(path, mode="wb") as file:
            file.write(
                save_tensors({n: np.ascontiguousarray(a, np.float16) for n, a in delta.items()})
            )

    def updates(self) -> Iterator[tuple[int, str, Arrays]]:
        """Round, client and update of all that were kept."""
        for path in sorted((self.folder / "updates").glob("*/*.safetensors")):
            arrays = load_tensors(path.read_bytes())
            found = {n: a.astype(np.float32) for n, a in arrays.items()}
            yield int(path.parent.name), path.stem.replace("~", "/"), found
