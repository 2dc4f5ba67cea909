"""Memory of a large job: flat in the number of inputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from the kernel's account"),
]

MEASURE = """
import re, sys
from avser.cli import main
code = main(sys.argv[1:])
# this program's own peak: ru_maxrss also keeps that of the parent it began as
print(code, int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def test_memory_does_not_grow_with_the_number_of_clips(tmp_path: Path) -> None:
    model = tiny_bundle(tmp_path / "tiny")
    clip = write_wav(tmp_path / "clip.wav", voice("happy", seconds=0.3))
    peaks = {}
    for count in (200, 4_000):
        folder = tmp_path / f"clips-{count}"
        folder.mkdir()
        for n in range(count):
            os.link(clip, folder / f"{n:05}.wav")
        out = tmp_path / f"{count}.jsonl"
        words = ["classify", str(folder), "--model", str(model), "--json", str(out), "--quiet",
                 "--csv", str(out.with_suffix(".csv")), "--device", "cpu"]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, *words], capture_output=True, text=True, check=True
        )
        code, peaks[count] = map(int, done.stdout.split())
        assert code == 0
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [Path(row["path"]).name for row in rows] == [f"{n:05}.wav" for n in range(count)]
    assert peaks[4_000] - peaks[200] < 60, peaks  # MB
