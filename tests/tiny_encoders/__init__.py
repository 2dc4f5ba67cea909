"""Tiny settings of every encoder, for the contract tests: one file an encoder, found by walking.

A file has one or more of these tables, each of names and of functions that make an encoder:

- ``AUDIO``: audio encoders;
- ``STREAMING``: of those, settings that stream, one for each kind of state;
- ``FACES``: encoders of face crops.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import avser.models.encoders
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.faces import FaceEncoder


def _tables(name: str) -> dict[str, Callable[[], Any]]:
    """All tables of one name, joined."""
    joined: dict[str, Callable[[], Any]] = {}
    for module in pkgutil.iter_modules(__path__):
        table = getattr(importlib.import_module(f"{__name__}.{module.name}"), name, {})
        twice = joined.keys() & table.keys()
        assert not twice, f"{module.name}.py: {sorted(twice)} are in another file; rename them."
        joined |= table
    return joined


ENCODERS: dict[str, Callable[[], AudioEncoder]] = _tables("AUDIO")
STREAMS: dict[str, Callable[[], AudioEncoder]] = _tables("STREAMING")
FACES: dict[str, Callable[[], FaceEncoder]] = _tables("FACES")


def classes(base: type) -> Iterator[type]:
    """Concrete subclasses of ``base`` under ``avser.models.encoders``."""
    for module in pkgutil.walk_packages(avser.models.encoders.__path__, "avser.models.encoders."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and value.__module__ == module.name:
                if issubclass(value, base) and not getattr(value, "__abstractmethods__", None):
                    yield value
