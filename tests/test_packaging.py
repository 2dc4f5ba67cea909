import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from avser import __version__

ROOT = Path(__file__).parent.parent
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
TOPS = ("avser", "datamodules", "configs", "checkpoints")
DATA = (".yaml", ".safetensors", ".md", ".txt", ".typed")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def package_of(folder: Path) -> str:
    """Name under which a folder is installed."""
    parts = folder.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "avser" else ("avser", *parts))


def shipped(path: Path) -> bool:
    page = path.parent.name == "page" and path.is_relative_to(ROOT / "avser")
    return "__pycache__" not in path.parts and (page or path.suffix in (".py", *DATA))


# -- what pyproject says -------------------------------------------------------------------------


def test_packages_are_the_folders_that_hold_python() -> None:
    there = {package_of(p.parent) for top in TOPS for p in (ROOT / top).rglob("*.py")}
    assert sorted(project()["tool"]["setuptools"]["packages"]) == sorted(there)


def test_every_package_is_where_it_is_said_to_be() -> None:
    setuptools = project()["tool"]["setuptools"]
    for name in setuptools["packages"]:
        top = ".".join(name.split(".")[:2])
        folder = setuptools["package-dir"].get(top)
        rest = name.split(".")[2:] if folder else name.split(".")[1:]
        place = ROOT.joinpath(folder or "avser", *rest)
        assert (place / "__init__.py").is_file(), f"{name}: {place} has no __init__.py"


def test_every_data_file_is_package_data() -> None:
    patterns = project()["tool"]["setuptools"]["package-data"]
    for top in TOPS:
        folders = [ROOT / top, *(p for p in (ROOT / top).rglob("*") if p.is_dir())]
        named = {p for f in folders for x in patterns.get(package_of(f), []) for p in f.glob(x)}
        there = {p for p in (ROOT / top).rglob("*") if shipped(p) and p.suffix != ".py"}
        assert there <= named, f"{top}: not installed: {sorted(there - named)}"


def test_configurations_are_found_as_they_are_installed() -> None:
    ours = {p.relative_to(ROOT / "configs") for p in (ROOT / "configs").rglob("*.yaml")}
    root = Path(str(files("avser.configs")))
    assert ours and {p.relative_to(root) for p in root.rglob("*.yaml")} == ours
    for path in ours:
        assert isinstance(yaml.safe_load((root / path).read_text()), dict)


def test_versions_agree() -> None:
    import avser

    own = project()
    assert own["project"]["dynamic"] == ["version"] and "version" not in own["project"]
    assert own["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "avser.__version__"}
    dates = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)
    assert dates and dates[0] == avser.__version__
    assert (ROOT / "avser" / "py.typed").exists()


def test_outside_files_call_make_and_name_no_invented_host() -> None:
    for path in (ROOT / ".github").rglob("*.yml"):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            commands = [step["run"] for step in job["steps"] if "run" in step]
            assert all(command.startswith("make ") for command in commands), path
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["authors"] == project()["project"]["authors"]
    assert "urls" not in project()["project"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["ruff", "ruff-format", "mypy"]


# -- the wheel -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: building writes into the tree."""
    tree = tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*TOPS, "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    for path in ROOT.glob("*"):
        if path.is_file() and path.suffix in (".toml", ".md", "", ".cff"):
            shutil.copy(path, tree / path.name)
    out = tree / "dist"
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the wheel alone; what avser depends on is lent by this one."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, system_site_packages=False)
    base = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=base))
    executable = Path(sysconfig.get_path("scripts", "venv", vars=base)) / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(executable), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    # a path line alone: it does not follow the editable install in that folder
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return executable


def run(python: Path, *words: str, folder: Path) -> str:
    """What a command of the bare environment prints, called in some other folder."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "AVSER_DATA")}
    command = [str(python), *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.long
def test_the_wheel_holds_the_house_and_no_tests(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    expected = set()
    for top in TOPS:
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and shipped(path):
                inside = path.relative_to(ROOT).as_posix()
                expected.add(inside if top == "avser" else f"avser/{inside}")
    assert names == expected
    assert "avser/py.typed" in names and "avser/configs/data/ravdess.yaml" in names
    assert not [n for n in names if "test_" in n or "conftest" in n]


@pytest.mark.long
def test_the_wheel_works_outside_of_the_clone(python: Path, tmp_path: Path) -> None:
    command = python.with_name("avser")
    version = run(command, "--version", folder=tmp_path)
    assert version == f"avser {__version__}"
    code = (
        "import avser, avser.datamodules.corpora as c, avser.datamodules.clips as d\n"
        "from avser.datamodules.corpora.ravdess import Ravdess\n"
        "from avser.cli.config import locate\n"
        "print(avser.__file__, c.__file__, d.__file__, locate('configs/data/ravdess.yaml'))\n"
        "assert c.find_corpus('ravdess') is Ravdess"
    )
    where = [Path(p) for p in run(python, "-c", code, folder=tmp_path).split()]
    assert len(where) == 4
    home = python.parent.parent.resolve()
    for path in where:
        assert home in path.resolve().parents, f"{path} is not of the bare environment"
        assert ROOT not in path.resolve().parents
        assert path.is_file()


@pytest.mark.long
def test_released_models_are_found_outside_of_the_clone(python: Path, tmp_path: Path) -> None:
    code = "from avser.bundle.serialization import released; print(*released())"
    ours = {p.parent.name for p in (ROOT / "checkpoints").glob("*/config.yaml")}
    assert set(run(python, "-c", code, folder=tmp_path).split()) == ours
    if ours:
        code = "from avser.bundle.serialization import load, released; list(map(load, released()))"
        run(python, "-c", code, folder=tmp_path)
