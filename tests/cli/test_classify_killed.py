"""``avser classify`` in a process of its own, ended in the middle.

The job stops by itself at an input that is a pipe to which nobody writes, so that it is ended at
the same place every time.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle

pytestmark = pytest.mark.skipif(os.name == "nt", reason="named pipes and SIGTERM are POSIX")

COUNT, BLOCKED = 24, 18  # clips, and which of them is a pipe; a batch has 16
PATIENCE_S = 240.0  # until a test fails; no wait is as long where all is well


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    for n in range(COUNT):
        write_wav(folder / f"{n:02}.wav", voice("happy", seconds=0.6, seed=n))
    blocked = folder / f"{BLOCKED:02}.wav"
    blocked.rename(tmp_path / "kept.wav")
    os.mkfifo(blocked)
    return folder


def start(clips: Path, out: Path, model: Path) -> "subprocess.Popen[str]":
    names = [str(clips / f"{n:02}.wav") for n in range(COUNT)]  # a pipe is read where it is named
    words = ["classify", *names, "--json", str(out), "--model", str(model), "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-m", "avser", *words], stderr=subprocess.PIPE, text=True
    )


def wait_until(ready: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + PATIENCE_S
    while not ready():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < end, "the job does not come so far"
        time.sleep(0.02)


def rows(log: Path) -> list[str]:
    return log.read_text().splitlines()[1:] if log.exists() else []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_that_is_ended_loses_no_row_and_repeats_none(
    clips: Path, tmp_path: Path, number: signal.Signals
) -> None:
    model = tiny_bundle(tmp_path / "tiny")
    out, log = tmp_path / "out.json", tmp_path / "out.json.part.jsonl"
    process = start(clips, out, model)
    try:
        wait_until(lambda: len(rows(log)) == 16, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == (-9 if number == signal.SIGKILL else 143)
    assert "Traceback" not in err
    if number == signal.SIGTERM:
        assert f"interrupted; the same command goes on from {log}" in err
    before = rows(log)
    assert len(before) == 16 and not out.exists()
    (clips / f"{BLOCKED:02}.wav").unlink()
    (tmp_path / "kept.wav").rename(clips / f"{BLOCKED:02}.wav")
    again = start(clips, out, model)
    _, err = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, err
    assert not log.exists()
    result = json.loads(out.read_text())
    assert [Path(row["path"]).name for row in result] == [f"{n:02}.wav" for n in range(COUNT)]
    assert result[:16] == [json.loads(row) for row in before]  # kept as they were
