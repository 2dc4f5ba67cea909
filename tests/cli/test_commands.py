"""Commands are found by walking: a new one is one file."""

import ast
import os
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

import avser.cli.models
from avser.cli import commands, main
from avser.cli.parser import CommandParser

HOME = Path(avser.cli.__file__).parent


@pytest.mark.parametrize("package", ["avser.cli", "avser.cli.federate"])
def test_every_module_that_runs_is_a_command_with_a_summary(package: str) -> None:
    folder = HOME.joinpath(*package.split(".")[2:])
    running = set()
    for path in [*folder.glob("*.py"), *folder.glob("*/__init__.py")]:
        if path == folder / "__init__.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(n, ast.FunctionDef) and n.name == "run" for n in tree.body):
            name = path.parent.name if path.name == "__init__.py" else path.stem
            running.add(name.replace("_", "-"))
    assert running == set(commands(package))
    assert all(len(summary) > 10 for summary in commands(package).values())


def test_summaries_are_the_first_lines() -> None:
    assert commands()["models"] == "list the released models"
    assert commands("avser.cli.federate")["table"] == "one line of results for each run"


def test_help_pages_fit_80_columns_and_give_every_flag_a_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    nested = [["federate", name] for name in commands("avser.cli.federate")]
    for words in ([], *([name] for name in commands()), *nested, ["federate", "keys", "server"]):
        with suppress(SystemExit):  # argparse's way to end
            main([*words, "--help"])
        page = capsys.readouterr().out
        assert page.startswith(f"usage: {' '.join(['avser', *words])}")
        assert max(map(len, page.splitlines())) <= 80, words
        assert not re.search("``|None|<class", page), words
        bare = re.findall(r"^  (--?\w\S*(?: [^a-z\s]\S*)?)\n(?!\s{4})", page, flags=re.MULTILINE)
        assert bare == [], words


def test_help_shows_the_default_of_flags_that_have_one() -> None:
    parser = CommandParser("example", "Do something.")
    parser.add_argument("--limit", type=float, default=100.0, help="megabytes")
    parser.add_argument("--seeds", action="append", default=[], help="seeds")
    parser.add_argument("--quick", action="store_true", help="less")
    assert "megabytes (default: 100)\n" in parser.format_help()
    assert parser.format_help().count("default") == 1


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM is POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_every_command_ends_alike_when_it_is_interrupted(
    number: signal.Signals,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    own = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's jobs ignore it

    def interrupted(_: Sequence[str]) -> int:
        signal.raise_signal(number)
        return 0

    monkeypatch.setattr(avser.cli.models, "run", interrupted)
    try:
        assert main(["models"]) == code
    finally:
        signal.signal(signal.SIGINT, own)
    assert capsys.readouterr().err == "avser models: interrupted.\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clasify"]) == 2
    message = capsys.readouterr().err
    assert "Bad command 'clasify'" in message and "did you mean 'classify'" in message
    assert main([]) == 2
    capsys.readouterr()
    assert main(["--help"]) == 0
    message = capsys.readouterr().out
    assert all(command in message for command in commands())
    assert main(["--version"]) == 0
    with pytest.raises(SystemExit) as caught:
        main(["classify"])
    assert caught.value.code == 2
