"""Classifiers that end their process or raise, for tests of jobs; they load no torch."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from avser.errors import MediaError


class Fragile:
    """A classifier whose process ends at inputs named poison."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def rows(self, paths: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        for path in paths:
            if path == "poison":
                os._exit(9)
            yield {"path": path, "label": "sad", "duration_s": 1.0, "model": "fragile"}


class Refusing:
    """A classifier that raises."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        raise MediaError("Can't classify anything.")
