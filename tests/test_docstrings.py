"""Examples in docstrings are run."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def modules() -> list[str]:
    """Modules of the package with an example, by the names under which they are installed."""
    names = []
    for top in ("avser", "datamodules"):
        for path in sorted((ROOT / top).rglob("*.py")):
            if "\n    >>> " in path.read_text(encoding="utf-8"):
                parts = path.relative_to(ROOT).with_suffix("").parts
                name = ".".join(parts if top == "avser" else ("avser", *parts))
                names.append(name.removesuffix(".__init__"))
    return names


@pytest.mark.parametrize("name", modules())
def test_examples_of_docstrings_give_what_they_show(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0 and result.failed == 0


def test_examples_are_there() -> None:
    assert len(modules()) >= 5
