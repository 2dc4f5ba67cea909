"""Output that nobody reads: the command ends without a word, with the code of SIGPIPE."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avser.cli import pipes
from avser.cli.pipes import BROKEN_PIPE, until_reader_ends

ROOT = Path(__file__).parents[2]
RICH = """
import sys
from rich.console import Console
from avser.cli.pipes import until_reader_ends
sys.exit(until_reader_ends(lambda: Console().print("line\\n" * 9_000) or 0))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "avser", "models"],
        ["-m", "avser", "--help"],
        ["-m", "avser", "classify", "--help"],
        ["-c", RICH],
    ],
)
def test_a_command_whose_reader_has_ended_is_quiet(words: list[str]) -> None:
    receive, send = os.pipe()
    os.close(receive)
    try:
        done = subprocess.run(
            [sys.executable, *words], stdout=send, stderr=subprocess.PIPE, cwd=ROOT, timeout=120
        )
    finally:
        os.close(send)
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, b"") and BROKEN_PIPE == 141


def test_another_broken_pipe_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        raise BrokenPipeError

    monkeypatch.setattr(pipes, "reader_has_ended", lambda: False)
    with pytest.raises(BrokenPipeError):
        until_reader_ends(broken)
    assert until_reader_ends(lambda: 3) == 3
