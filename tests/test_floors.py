import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Rooms of each floor, ground floor first, left to right. A room imports from floors below, or
#: from rooms further left on its own floor.
FLOORS = (
    ("errors", "extras", "files", "types", "emotions", "allocator", "runtime"),
    ("container", "decode", "features", "media", "faces", "intake"),
    (
        "frontends",
        "augment",
        "image_augment",
        "encoders",
        "fusion",
        "heads",
        "baselines",
        "metrics",
    ),
    ("net",),
    (
        "protocols",
        "cache",
        "image_store",
        "face_cache",
        "batch",
        "blueprint",
        "outcomes",
        "evaluation",
        "card",
        "bundle",
        "listing",
        "rows",
        "timeline",
        "audit",
        "tables",
    ),
    (
        "answers",
        "fitting",
        "transfer",
        "losses",
        "optimizers",
        "task",
        "resizing",
        "windows",
        "inference",
        "streaming",
        "predictor",
        "ensemble",
        "draw",
        "draw_clip",
        "filters",
        "draw_filters",
        "annotate",
        "page",
        "report",
        "run_folder",
        "export",
        "training",
        "crossval",
        "search",
    ),
    ("testing", "datamodules"),
    ("listen", "web", "federated", "cli", "__main__"),
)

#: Libraries that only some rooms may import: they are slow to load, or do too much.
ONLY = {
    "pytorch_lightning": {"task", "resizing", "training", "crossval", "cli", "datamodules"},
    "torchaudio": {"frontends", "augment", "intake"},
    "gradio": {"web", "federated"},
}

MOST_LINES = 350
MOST_FUNCTION_LINES = 60


def room_of(path: Path) -> str:
    """Room of a file: ``avser/<room>.py``, ``avser/<room>/...`` or ``datamodules/...``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "avser" else parts[0]


def sources() -> list[Path]:
    """Files of all rooms; the package's own face, ``avser/__init__.py``, is none."""
    found = [p for top in ("avser", "datamodules") for p in (ROOT / top).rglob("*.py")]
    return sorted(p for p in found if p != ROOT / "avser" / "__init__.py")


def python_files() -> list[Path]:
    """All Python of the project."""
    tops = ("avser", "datamodules", "configs", "checkpoints", "tests", "examples", "benchmarks")
    return sorted(p for top in tops for p in (ROOT / top).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, at any depth.

    ``from avser import media`` gives ``avser.media``; relative imports are resolved;
    ``import_module("...")`` counts where the name stands there.
    """
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    if package[0] == "datamodules":
        package = ("avser", *package)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            home = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{home}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)


def places() -> dict[str, tuple[int, int]]:
    """Floor and place on it of every room."""
    return {room: (i, j) for i, rooms in enumerate(FLOORS) for j, room in enumerate(rooms)}


def loaded_by(statement: str, *modules: str) -> list[str]:
    """Which of the modules a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint([m for m in {modules!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: list[str] = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    return found


# -- floors --------------------------------------------------------------------------------------


def test_every_room_has_its_place_and_every_place_its_room() -> None:
    there = {room_of(p) for p in sources()}
    new, gone = sorted(there - set(places())), sorted(set(places()) - there)
    assert not new, f"{new} have no place: add each to FLOORS, on the lowest floor that will do."
    assert not gone, f"{gone} are on FLOORS and are no rooms any more: take them off."


def test_rooms_import_from_below_or_from_the_left() -> None:
    table = places()
    wrong = []
    for path in sources():
        room = room_of(path)
        for line, name in imported(path):
            parts = name.split(".")
            if parts[0] != "avser" or len(parts) < 2 or parts[1] in (room, "__version__"):
                continue
            if table[parts[1]] >= table[room]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {room} imports {parts[1]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", ONLY)
def test_heavy_libraries_stay_in_their_rooms(library: str) -> None:
    users = {
        room_of(path)
        for path in sources()
        for _, name in imported(path)
        if name.split(".")[0] == library or (library, name.split(".")[0]) == (
            "pytorch_lightning", "lightning"
        )
    }  # fmt: skip
    assert users <= ONLY[library]


def test_the_tree_is_reached_by_the_name_under_which_it_is_installed() -> None:
    """A bare ``import datamodules`` would make a second copy of each class."""
    tops = ("datamodules", "configs", "checkpoints")
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in python_files()
        for line, name in imported(path)
        if name.split(".")[0] in tops
    ]
    assert not wrong, "\n".join(wrong)


# -- sizes and names -----------------------------------------------------------------------------


def test_no_room_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "misc"}
    parts = [part for p in python_files() for part in p.relative_to(ROOT).with_suffix("").parts]
    assert not drawers & {part.strip("_") for part in parts}


def test_files_are_short() -> None:
    files = list(python_files())
    lines = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in files}
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def test_functions_are_short() -> None:
    long = {}
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_FUNCTION_LINES:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = lines
    assert long == {}


# -- what loads what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "import avser; avser.AvserError; avser.Clip; avser.__version__",
        "from avser.cli import main; main(['--help'])",
        "from avser.cli import main; main(['--version'])",
        "from avser.cli import main; main(['no-such-command'])",
        "import avser.cli.classify",
        "import avser.cli.classify as c; c.parser().format_help()",
        "import avser.runtime",
        "import avser.cli.export as c; c.parser().format_help()",
        "import avser.listen, avser.cli.listen as c; c.parser().format_help()",
        "import avser.cli.serve as c; c.parser().format_help()",
        "import avser.web.workers, avser.web.desk, avser.web.service",
        "import avser.datamodules.corpora.ravdess",
        "import avser.protocols",
    ],
)
def test_light_things_load_no_torch(statement: str) -> None:
    assert loaded_by(statement, "torch", "pytorch_lightning", "jsonargparse", "av") == []


def test_what_predicts_and_measures_loads_no_lightning() -> None:
    statement = "import avser.predictor, avser.testing.nets, avser.evaluation, avser.report"
    assert loaded_by(statement, "torch", "pytorch_lightning", "jsonargparse") == ["torch"]


def test_names_of_the_package_are_its_own() -> None:
    import avser

    assert all(getattr(avser, name) is not None for name in avser.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        _ = avser.Predicter
