"""Recipes of ``docs/extending``, followed to the letter in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "extending"

CONFIGS = "tests/test_configs.py"
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
#: Per page: the most files it may name, and the tests concerned, with what they must include.
RECIPES: dict[str, tuple[int, tuple[str, ...], str]] = {
    "corpus": (3, ("tests/datamodules", CONFIGS), "palermo"),
    "fusion": (2, ("tests/models/test_fusion.py", CONFIGS), "gated"),
    "frontend": (2, ("tests/models/test_frontends.py", CONFIGS), "log_spectrum"),
    "encoder": (3, ("tests/models", CONFIGS), "frame_mlp"),
    "command": (2, ("tests/cli/test_commands.py", "tests/cli/test_classes.py"), "classes"),
}
pytestmark = pytest.mark.long


def blocks(page: str) -> dict[str, str]:
    """Files of a page by their paths: its code blocks that have a title."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL))


def named(page: str) -> list[str]:
    """Paths in the table at the head of a page."""
    head = (PAGES / f"{page}.md").read_text(encoding="utf-8").partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", head, re.MULTILINE)


def bare(text: str) -> str:
    """Small letters alone: ``LogSpectrum``, ``log_spectrum`` and ``log spectrum`` are one."""
    return re.sub("[^a-z]", "", text.lower())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that git knows, as they are in the working tree, and importable.

    An editable install maps the three top-level folders into the package; links do here.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    for name in ("datamodules", "configs", "checkpoints"):
        (tmp_path / "avser" / name).symlink_to(Path("..", name), target_is_directory=True)
    code = "import avser, avser.datamodules.corpora as c; print(avser.__file__, c.__file__)"
    for path in run(tmp_path, "-c", code).split():
        assert tmp_path in Path(path).parents, f"{path} is not of the copy"
    return tmp_path


def run(folder: Path, *words: str) -> str:
    """Output of a Python command in the copy, which is before all else on the path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    environment["PYTHONPATH"] = str(folder)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.mark.parametrize("page", RECIPES)
def test_recipe_followed_to_the_letter_passes_every_test_concerned(page: str, copy: Path) -> None:
    most, suites, word = RECIPES[page]
    files = blocks(page)
    assert list(files) == named(page) and len(files) <= most
    for name, text in files.items():
        assert not (copy / name).exists(), f"{name} is there already"
        assert (copy / name).parent.is_dir()
        (copy / name).write_text(text, encoding="utf-8")
    python = [name for name in files if name.endswith(".py")]
    run(copy, "-m", "ruff", "check", *python)
    run(copy, "-m", "ruff", "format", "--check", *python)
    collected = run(copy, *PYTEST, "--collect-only", *suites)
    new = [line for line in collected.splitlines() if bare(word) in bare(line)]
    assert len(new) >= (2 if page == "command" else 4), collected[-2000:]
    print(*new, sep="\n")
    own = [suite for suite in suites if suite != CONFIGS]
    # of the configurations the new one alone: each is trained for a step
    for words in (own, [CONFIGS, "-k", word] if CONFIGS in suites else []):
        if words:
            message = run(copy, *PYTEST, "-m", "not long", *words)
            print(message.splitlines()[-1])
    run(copy, *PYTEST, "tests/test_architecture.py")
