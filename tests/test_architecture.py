"""Order of packages, light imports, short functions."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.imports import imported, package_of, sources

ROOT = Path(__file__).parents[1]

#: A package imports only from packages before it (docs/architecture.md draws this order).
ORDER = (
    "errors emotions files stores types extras media models data visualization evaluation bundle "
    "export inference training distributed testing datamodules web federated cli __main__"
).split()

LOOSE = {"errors", "emotions", "files", "stores", "types", "extras", "__main__"}

#: Libraries that only some packages may import: they are slow to load, or do too much.
ONLY = {
    "pytorch_lightning": {"training", "cli", "datamodules", "federated"},
    "torchaudio": {"models", "training", "media"},
}

MOST_FUNCTION_LINES = 60


def python_files() -> list[Path]:
    """All Python of the project."""
    tops = ("avser", "datamodules", "configs", "checkpoints", "tests", "examples", "benchmarks")
    return sorted(p for top in tops for p in (ROOT / top).rglob("*.py"))


def loaded_by(statement: str, *modules: str) -> list[str]:
    """Modules of the given ones that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint([m for m in {modules!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded: list[str] = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    return loaded


def test_packages_import_only_from_packages_before_them() -> None:
    place = {name: index for index, name in enumerate(ORDER)}
    wrong = []
    for path in sources():
        package = package_of(path)
        assert package in place, f"{path.relative_to(ROOT)}: add {package} to ORDER."
        for line, name in imported(path):
            parts = name.split(".")
            if parts[0] != "avser" or len(parts) < 2 or parts[1] in (package, "__version__"):
                continue
            if place[parts[1]] >= place[package]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {package} imports {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", ONLY)
def test_heavy_libraries_stay_in_their_packages(library: str) -> None:
    users = {
        package_of(path)
        for path in sources()
        for _, name in imported(path)
        if name.split(".")[0] == library or (library, name.split(".")[0]) == (
            "pytorch_lightning", "lightning"
        )
    }  # fmt: skip
    assert users <= ONLY[library]


def test_the_tree_is_imported_by_the_name_under_which_it_is_installed() -> None:
    """A bare ``import datamodules`` would make a second copy of each class."""
    tops = ("datamodules", "configs", "checkpoints")
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in python_files()
        for line, name in imported(path)
        if name.split(".")[0] in tops
    ]
    assert not wrong, "\n".join(wrong)


def test_few_loose_files_and_no_module_for_everything() -> None:
    assert len(list((ROOT / "avser").glob("*.py"))) <= 8
    drawers = {"utils", "util", "common", "helpers", "helper", "misc"}
    parts = [part for p in python_files() for part in p.relative_to(ROOT).with_suffix("").parts]
    assert not drawers & {part.strip("_") for part in parts}


def test_the_page_of_the_architecture_names_every_package_and_no_file_that_is_gone() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:avser|datamodules|tests|benchmarks)/[\w/.]+)`", page))
    assert all((ROOT / name).exists() for name in named)
    rows = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    assert {package_of(path) for path in sources()} - LOOSE <= rows


def test_module_docstrings_are_noun_phrases() -> None:
    begin = ("What", "Who", "Which", "How", "Where", "When", "Why", "Whether")
    docstrings = {
        path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for path in python_files()
    }
    wrong = [str(path) for path, text in docstrings.items() if text.split(" ")[0] in begin]
    assert wrong == []


def test_functions_are_short() -> None:
    long = {}
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_FUNCTION_LINES:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = lines
    assert long == {}


@pytest.mark.parametrize(
    "statement",
    [
        "import avser; avser.AvserError; avser.Clip; avser.__version__",
        "from avser.cli import main; main(['--help'])",
        "from avser.cli import main; main(['--version'])",
        "from avser.cli import main; main(['no-such-command'])",
        "import avser.cli.classify",
        "import avser.cli.classify as c; c.parser().format_help()",
        "import avser.export.runtime",
        "import avser.cli.export as c; c.parser().format_help()",
        "import avser.inference.live, avser.cli.listen as c; c.parser().format_help()",
        "import avser.cli.serve as c; c.parser().format_help()",
        "import avser.web.workers, avser.web.job_handler, avser.web.service",
        "import avser.datamodules.corpora.ravdess",
        "import avser.data.splits",
    ],
)
def test_light_things_load_no_torch(statement: str) -> None:
    assert loaded_by(statement, "torch", "pytorch_lightning", "jsonargparse", "av") == []


def test_prediction_and_evaluation_load_no_lightning() -> None:
    statement = (
        "import avser.inference.predictor, avser.testing.nets, avser.evaluation.summary, "
        "avser.evaluation.report"
    )
    assert loaded_by(statement, "torch", "pytorch_lightning", "jsonargparse") == ["torch"]


def test_public_names_of_the_package_exist() -> None:
    import avser

    assert all(getattr(avser, name) is not None for name in avser.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        _ = avser.Predicter
