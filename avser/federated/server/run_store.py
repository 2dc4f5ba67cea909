"""Run folder of a federation: committed rounds and the event log.

``rounds/00007.safetensors`` holds the model after the seventh update, its average over rounds and
the strategy's state. ``rounds/00007.json`` holds the round's row and is written last: a round
without it does not count. ``events.jsonl`` has a line for each reply and each change of clients.
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
from avser.files import append_json_line, atomic_write, json_lines


@dataclass(frozen=True, kw_only=True)
class StoredRound:
    """The model after an update.

    Attributes:
        update: its number; 0 is the start.
        model: global weights.
        average: their average over rounds.
        memory: state of the strategy.
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

    def save(self, stored: StoredRound) -> None:
        """Save a round, all or nothing."""
        tensors = {
            f"{part}/{name}": np.ascontiguousarray(array)
            for part, arrays in (
                ("model", stored.model),
                ("average", stored.average),
                ("memory", stored.memory),
            )
            for name, array in arrays.items()
        }
        raw = save_tensors(tensors)
        with atomic_write(self._path(stored.update, "safetensors"), mode="wb") as file:
            file.write(raw)
        row = {**stored.row, "update": stored.update, "sha256": hashlib.sha256(raw).hexdigest()}
        with atomic_write(self._path(stored.update, "json")) as file:
            file.write(json.dumps(row) + "\n")
        if self.last is not None:
            for old in range(1, stored.update - self.last + 1):  # the start stays
                self._path(old, "safetensors").unlink(missing_ok=True)

    def latest(self) -> StoredRound | None:
        """Return the last complete round, or None."""
        for row in reversed(self.rows()):
            try:
                return self.load(int(row["update"]))
            except CacheError:
                continue  # damaged or missing weights: use the round before
        return None

    def load(self, update: int) -> StoredRound:
        """Load a round.

        Raises:
            CacheError: the round is missing or damaged.
        """
        path = self._path(update, "safetensors")
        try:
            raw = path.read_bytes()
            row = json.loads(self._path(update, "json").read_text(encoding="utf-8"))
            if hashlib.sha256(raw).hexdigest() != row["sha256"]:
                raise ValueError("the hash does not match")
            tensors = load_tensors(raw)
        except Exception as error:  # safetensors raises its own untyped error
            raise CacheError(f"Bad round {path}: {error}; load an earlier one.") from error
        parts: dict[str, Arrays] = {"model": {}, "average": {}, "memory": {}}
        for name, array in tensors.items():
            part, _, key = name.partition("/")
            parts[part][key] = array
        return StoredRound(update=update, row=row, **parts)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of all complete rounds, in order."""
        rows = []
        for path in sorted(self._rounds.glob("*.json")):
            try:
                rows.append(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError):
                continue
        return sorted(rows, key=lambda row: int(row["update"]))

    def _path(self, update: int, suffix: str) -> Path:
        return self._rounds / f"{update:05d}.{suffix}"

    # -- event log ---------------------------------------------------------------------------

    def log_event(self, event: str, **fields: object) -> None:
        """Append a line to the event log.

        Args:
            event: "accepted", "refused", "capped", "late", "joined", "left", "abandoned", or
                "empty" for a private round whose step is noise alone.
            fields: further columns, such as client, round and reason.
        """
        line = {"time": round(time.time(), 3), "event": event, **fields}
        append_json_line(self.folder / "events.jsonl", line)

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield all events; an incomplete last line, of a killed server, is skipped."""
        return json_lines(self.folder / "events.jsonl")

    # -- single updates ----------------------------------------------------------------------

    def save_update(self, update: int, client: str, delta: Arrays) -> None:
        """Save one client's update in half precision."""
        name = client.replace("/", "~")
        path = self.folder / "updates" / f"{update:05d}" / f"{name}.safetensors"
        with atomic_write(path, mode="wb") as file:
            file.write(
                save_tensors({n: np.ascontiguousarray(a, np.float16) for n, a in delta.items()})
            )

    def updates(self) -> Iterator[tuple[int, str, Arrays]]:
        """Yield round, client and update of all that were saved."""
        for path in sorted((self.folder / "updates").glob("*/*.safetensors")):
            arrays = load_tensors(path.read_bytes())
            update = {n: a.astype(np.float32) for n, a in arrays.items()}
            yield int(path.parent.name), path.stem.replace("~", "/"), update
