"""One file a corpus: its layout, file names, labels, licence and citation.

``NAME.py`` holds exactly one `Corpus` subclass, which is what ``--corpus NAME`` means. There is
no list to extend: a new file is found by being here.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from avser.errors import CorpusError, unknown
from avser.types import Corpus

_COMBINATIONS = frozenset(
    {"mix", "paired"}
)  # made of other corpora, so a name and a root do not make one


def corpus_names() -> list[str]:
    """Names that `find_corpus` knows, sorted. Imports none of them."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(n for n in names if not n.startswith("_") and n not in _COMBINATIONS)


def find_corpus(name: str) -> type[Corpus]:
    """Return the only `Corpus` subclass of the file of that name.

    Raises:
        CorpusError: there is no such file, or it does not hold exactly one corpus.

    >>> find_corpus("crema-d").title
    'CREMA-D'
    """
    key = name.strip().lower().replace("-", "_")
    if key not in corpus_names():
        raise CorpusError(unknown("corpus", name, corpus_names()))
    module = import_module(f".{key}", __name__)
    result = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Corpus)
        and value.__module__ == module.__name__
    ]
    if len(result) != 1:
        raise CorpusError(
            f"Bad corpus file {module.__name__!r}: it holds {len(result)} Corpus subclasses, "
            "expected exactly one; move each corpus to a file of its own."
        )
    return result[0]
