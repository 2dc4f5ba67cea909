"""Small fake corpora in the layouts of their owners, oddities included: one file a corpus.

``NAME.py`` holds a function ``fake_NAME`` that writes real, tiny media below ``root`` and returns
it. It takes the number of ``speakers`` (or the speakers' own names) and how many takes
``per_emotion`` each speaker gives. What it writes is the same every time.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path


def _walk() -> dict[str, Callable[..., Path]]:
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return {name: getattr(import_module(f"{__name__}.{name}"), f"fake_{name}") for name in names}


#: Name of a corpus to what writes a fake of it.
FAKES: Mapping[str, Callable[..., Path]] = _walk()
