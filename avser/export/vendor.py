"""A copy of the modules that a folder needs, under another name, so that avser is not needed."""

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from avser.files import atomic_write

#: Name of the copied package.
PACKAGE = "avser_runtime"

_OWN = re.compile(r"\bavser(?=\.[a-z_])")  # in imports and in names that texts give


def save_package(folder: str | Path, module: str) -> list[Path]:
    """Copy a module of avser and all modules of avser that it loads at run time.

    Args:
        folder: in which the package is made.
        module: dotted name.

    Returns:
        The files.
    """
    written = []
    for name in sorted(closure(module)):
        source = _source(name)
        parts = name.split(".")[1:]
        inside = [*parts, "__init__.py"] if source.name == "__init__.py" else [*parts]
        path = Path(folder, PACKAGE, *inside)
        path = path if path.suffix else path.with_suffix(".py")
        text = '"""Parts of avser that read files and classify them without torch."""\n'
        if parts:
            text = renamed(source.read_text("utf-8"))
        with atomic_write(path) as file:
            file.write(text)
        written.append(path)
    return written


def renamed(source: str) -> str:
    """A source whose imports are those of the copied package."""
    return _OWN.sub(PACKAGE, source)


def closure(module: str) -> set[str]:
    """A module of avser and those that it imports, its packages included.

    Imports for type checkers alone do not count, nor those of ``avser`` itself.
    """
    modules: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in modules or not _is_module(name):
            continue
        modules.add(name)
        waiting += [name.rpartition(".")[0], *imports(_source(name).read_text("utf-8"))]
    return modules


def _is_module(name: str) -> bool:
    if not name.startswith("avser"):
        return False
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # a name inside of a module
        return False


def _source(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(name)
    return Path(spec.origin)


def imports(source: str) -> Iterator[str]:
    """Dotted names of what a source imports from inside packages, at any depth."""
    for node in _at_run_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module != "avser":
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _at_run_time(node)
