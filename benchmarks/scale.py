"""Jobs of many clips: an engine against another, and growth with its workers."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, TemporaryFile

from avser.bundle import serialization as bundle
from avser.errors import BundleError
from avser.testing.media import voice, write_wav
from benchmarks import batch
from benchmarks.material import EMOTIONS
from benchmarks.measure import ROOT, Goal, Report, Row, thread_environment
from benchmarks.scale_processes import Usage, watched

FULL = {"clips": 5_000, "part": 64, "rounds": 1}
QUICK = {"clips": 128, "part": 8, "rounds": 1}

FILES = 16  # that are written; the clips of a job are links to them
SMALL = "audio_small.multi"  # the smallest released voice: what is not the model weighs most


def short_clips(folder: Path, *, seconds: float = 1.0) -> list[Path]:
    """Write wav files of a second at 16 kHz: the shortest that a corpus has."""
    folder.mkdir()
    return [
        write_wav(
            folder / f"{number:02}.wav",
            voice(EMOTIONS[number % len(EMOTIONS)], speaker=str(number), seconds=seconds),
        )
        for number in range(FILES)
    ]


def link(files: list[Path], folder: Path, count: int) -> Path:
    """A folder of so many links to a few files."""
    folder.mkdir()
    for number in range(count):
        os.link(files[number % len(files)], folder / f"{number:06}.wav")
    return folder


def small_model(folder: Path) -> tuple[Path, str]:
    """Folder and description of the smallest released voice, or of an untrained one like it."""
    with suppress(BundleError):
        return bundle.find(SMALL), f"released model {SMALL}"
    return batch.model(folder)


def job_words(clips: Path, out: Path, using: Path, *words: str) -> list[str]:
    """Command that classifies a folder in parts."""
    return [sys.executable, "-m", "avser", "classify", str(clips), "--model", str(using),
            "--device", "cpu", "--quiet", "--out", str(out), *words]  # fmt: skip


def job(clips: Path, out: Path, using: Path, *words: str) -> dict[str, float]:
    """Classify a folder in parts; return rates between parts, and seconds in all.

    Rates begin with the first part that is there: what comes before it is start-up. ``rate`` is
    clips a second, ``core`` clips a second of processor time of all processes of the job.
    """
    start = time.time()
    usage = run_watched(job_words(clips, out, using, *words))
    return {**rates(out, usage), "seconds": time.time() - start}


def run_watched(words: list[str], *, environment: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end, and return what its processes took.

    Raises:
        RuntimeError: it failed; the message is the last line of its errors.
    """
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(
            words, cwd=ROOT, env={**thread_environment(1), **(environment or {})},
            stdout=subprocess.DEVNULL, stderr=errors,
        ) as process,
    ):  # fmt: skip
        with watched(process.pid) as usage:
            code = process.wait()
        if code:
            errors.seek(0)
            raise RuntimeError(f"Bad run of {words[3]}: {errors.read().strip()[-300:]}")
    return usage


def rates(out: Path, usage: Usage) -> dict[str, float]:
    """Clips a second, and a second of processor time, from the first part of a job to its last."""
    parts = json.loads((out / "manifest.json").read_text())["parts"]
    ends = sorted(((out / p["name"]).stat().st_mtime, p["rows"]) for p in parts)
    (first, _), (last, _) = ends[0], ends[-1]
    rows = sum(count for _, count in ends[1:])
    return {
        "rate": rows / max(last - first, 1e-3),
        "core": rows / max(usage.between(first, last), 1e-3),
        "start": first - usage.samples[0][0],
    }


def measure(*, clips: int, part: int, rounds: int) -> Report:
    """Run the engines in turn; ratios are of this one run."""
    results: dict[str, list[dict[str, float]]] = {}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = short_clips(folder / "files")
        using, what = small_model(folder)
        many = link(files, folder / "many", clips)
        ray = ("--engine", "ray", "--actors")
        engines = {"local": (), "two": (*ray, "2"), "one": (*ray, "1")}
        for number in range(rounds):
            for name, words in engines.items():
                out = folder / f"{name}{number}"
                made = job(many, out, using, "--part-clips", str(part), *words)
                results.setdefault(name, []).append(made)
    jobs = {
        name: {key: median(row[key] for row in made) for key in made[0]}
        for name, made in results.items()
    }
    return Report(
        "scale: jobs of many clips",
        f"{clips} links to {FILES} wav files of 1 s at 16 kHz, parts of {part}; {what}; one "
        f"compute thread a process; rates without start-up; median of {rounds}",
        rows(jobs),
    )


def rows(jobs: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """Compare; rates in clips a second, by engine."""
    two, one, local = jobs["two"], jobs["one"], jobs["local"]
    return [
        Row(
            ours="classify --engine ray, 2 actors",
            value=two["rate"],
            unit="clips/s",
            alternative="--engine local",
            other=local["rate"],
            more_is_better=True,
            goal=Goal("ratio", 0.8),
            note=f"first part after {two['start']:.0f} against {local['start']:.0f} s",
        ),
        Row(
            ours="the same, per second of processor time of all its processes",
            value=two["core"],
            unit="clips/s",
            alternative="--engine local",
            other=local["core"],
            more_is_better=True,
            goal=Goal("ratio", 0.8),
            note="other work on the machine does not count",
        ),
        Row(
            ours="classify --engine ray, 2 actors",
            value=two["rate"],
            unit="clips/s",
            alternative="1 actor",
            other=one["rate"],
            more_is_better=True,
            note="growth on this machine's cores",
        ),
    ]
