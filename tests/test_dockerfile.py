import json
import re
import shlex
import tomllib
from pathlib import Path

from avser.cli.serve import parser

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


def lines(word: str) -> list[str]:
    return [line.removeprefix(word).strip() for line in TEXT.splitlines() if line.startswith(word)]


def test_everything_that_is_installed_is_copied_and_not_ignored() -> None:
    copied = {n for line in lines("COPY") if "--from" not in line for n in shlex.split(line)[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = set(project["tool"]["setuptools"]["package-dir"].values())
    assert copied == folders | {"pyproject.toml", "README.md", "LICENSE"}
    kept = (ROOT / ".dockerignore").read_text().split()
    assert kept[0] == "*" and {f"!{name}" for name in copied} <= set(kept)


def test_no_index_of_packages_is_named() -> None:
    assert lines("ARG") == ['PIP_EXTRA=""']
    (install,) = (line for line in lines("RUN") if "pip install" in line)
    assert "${PIP_EXTRA}" in install and "://" not in install


def test_image_runs_the_server_as_a_user_without_rights() -> None:
    (entry,) = lines("ENTRYPOINT")
    words = json.loads(entry)
    assert words[:2] == ["avser", "serve"]
    own = parser().parse_args(words[2:])
    assert (own.host, str(own.port)) == ("0.0.0.0", lines("EXPOSE")[0])
    assert lines("USER") == ["avser"] and "useradd --system" in TEXT
    assert TEXT.index("USER avser") < TEXT.index("ENTRYPOINT")


def test_health_check_is_python_that_asks_the_server() -> None:
    result = re.search(r"HEALTHCHECK .*CMD (\[.*\])", TEXT)
    assert result is not None
    program, flag, code = json.loads(result[1])
    assert (program, flag) == ("python", "-c") and "/healthz" in code
    compile(code, "health check", "exec")
