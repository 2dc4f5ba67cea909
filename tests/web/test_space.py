import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.errors import ConfigError
from avser.testing.nets import tiny_bundle
from avser.web.space import requirements, write_space


@pytest.fixture
def tiny(tmp_path: Path) -> bundle.Bundle:
    return bundle.load(tiny_bundle(tmp_path / "tiny"))


def test_space_holds_all_that_it_needs(tiny: bundle.Bundle, tmp_path: Path) -> None:
    space = write_space(tiny, tmp_path / "space")
    _, head, card = (space / "README.md").read_text().split("---\n", 2)
    recorded = yaml.safe_load(head)
    assert (recorded["sdk"], recorded["app_port"], recorded["title"]) == ("docker", 7860, "tiny")
    recipe = (space / "Dockerfile").read_text()
    assert 'CMD ["python", "app.py"]' in recipe
    assert 'ARG PIP_EXTRA=""' in recipe and "install --no-cache-dir ${PIP_EXTRA} -r" in recipe
    names = (space / "requirements.txt").read_text().splitlines()
    assert names == requirements()  # no flag, no address of an index
    assert (space / "avser" / "export" / "page" / "index.html").is_file()
    assert card.strip() == tiny.card.strip()
    assert bundle.load(space / "bundle").config == tiny.config
    assert "Apache License" in (space / "LICENSE").read_text()
    assert not list(space.rglob("__pycache__")) and not (space / "avser" / "checkpoints").exists()


def test_space_imports_its_own_copy(tiny: bundle.Bundle, tmp_path: Path) -> None:
    space = write_space(tiny, tmp_path / "space")
    code = "import avser.web.server, avser.inference.predictor; print(avser.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=space, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).is_relative_to(space)
    compile((space / "app.py").read_text(), "app.py", "exec")


def test_requirements_are_those_of_the_page_and_no_more() -> None:
    needs = requirements()
    assert any(n.startswith("torch<") for n in needs)
    assert any(n.startswith("python-multipart") for n in needs)
    assert not any("onnx" in n or "flwr" in n or "pytest" in n or ";" in n for n in needs)


def test_only_a_space_is_replaced(tiny: bundle.Bundle, tmp_path: Path) -> None:
    space = write_space(tiny, tmp_path / "space")
    (space / "old").write_text("gone with the old one")
    assert not (write_space(tiny, space) / "old").exists()
    with pytest.raises(ConfigError, match="it holds something else"):
        write_space(tiny, tiny.folder)
    assert (tiny.folder / "config.yaml").is_file()


def test_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, space = tiny_bundle(tmp_path / "tiny"), tmp_path / "space"
    assert main(["export", "--model", str(model), "--space", str(space)]) == 0
    assert f"{space}: a Space, " in capsys.readouterr().out
    assert (space / "app.py").is_file()
    with pytest.raises(SystemExit, match="2"):
        main(["export", "--space", str(space), "--out", "voice.onnx"])
    assert "--space takes --model alone" in capsys.readouterr().err
