"""Small fake corpora of labelled face pictures in their owners' layouts: one file a corpus.

``NAME.py`` holds a function ``fake_NAME`` that writes tiny pictures below ``root`` and returns it.
It takes how many pictures ``per_emotion`` each part has. What it writes is the same every time.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path


def _walk() -> dict[str, Callable[..., Path]]:
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return {name: getattr(import_module(f"{__name__}.{name}"), f"fake_{name}") for name in names}


#: Name of a corpus of pictures to what writes a fake of it.
IMAGE_FAKES: Mapping[str, Callable[..., Path]] = _walk()
