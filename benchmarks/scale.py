"""Jobs of many clips: an engine against another, growth with its workers, start-up, planning."""

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
from avser.cli.inputs import Inputs
from avser.distributed.folder import Folder
from avser.distributed.parts import Job
from avser.errors import BundleError
from avser.testing.media import voice, write_wav
from benchmarks import batch
from benchmarks.footage import write_film
from benchmarks.material import EMOTIONS
from benchmarks.measure import ROOT, Goal, Report, Row, thread_environment
from benchmarks.scale_processes import Usage, watched

FULL = {"clips": 5_000, "part": 64, "videos": 48, "planned": 100_000, "rounds": 1}
QUICK = {"clips": 128, "part": 8, "videos": 8, "planned": 10_000, "rounds": 1}

# What is computed for more cores rests on these rows, see `benchmarks.scale_table`.
RATE = "{kind}: clips per second of processor time, all processes of --engine ray"
START = "{kind}: start-up until the first part, --engine ray, 2 actors"
SIZE = "{kind}: size of a clip"
PLANNING = "planning of an input"
SOUND, VIDEO = "sound", "720p video"

FILES = 16  # that are written; the clips of a job are links to them
FILM_S = 4.0
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


def measure(*, clips: int, part: int, videos: int, planned: int, rounds: int) -> Report:
    """Run the engines in turn; ratios are of this one run."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        using, what = small_model(folder)
        many = link(short_clips(folder / "files"), folder / "many", clips)
        jobs = {SOUND: engines(many, folder / "sound", using, part=part, rounds=rounds)}
        sizes = {SOUND: _mean_size(many)}
        film = write_film(folder / "film.mp4", FILM_S)
        films = link([film], folder / "films", videos)
        both = bundle.find(bundle.DEFAULT_AV_MODEL)
        jobs[VIDEO] = engines(films, folder / "video", both, part=1, rounds=rounds, grow=False)
        sizes[VIDEO] = _mean_size(films)
        plan_s = planning(folder / "planned", planned)
    return Report(
        "scale: jobs of many clips",
        f"{clips:,} links to {FILES} wav files of 1 s at 16 kHz, parts of {part}, {what}; {videos} "
        f"links to {FILM_S:g} s of 720p, parts of 1, released model {bundle.DEFAULT_AV_MODEL}; "
        f"{planned:,} planned inputs; one compute thread a process; rates without start-up; median "
        f"of {rounds}",
        rows(jobs, sizes=sizes, plan_s=plan_s),
    )


def engines(
    clips: Path, folder: Path, using: Path, *, part: int, rounds: int, grow: bool = True
) -> dict[str, dict[str, float]]:
    """Results of `job`, median of the rounds, by engine: local, two and (to grow) one actor."""
    ray = ("--engine", "ray", "--actors")
    words = {"local": (), "two": (*ray, "2"), **({"one": (*ray, "1")} if grow else {})}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in words}
    for number in range(rounds):
        for name, more in words.items():
            out = folder / f"{name}{number}"
            results[name].append(job(clips, out, using, "--part-clips", str(part), *more))
    return {
        name: {key: median(row[key] for row in made) for key in made[0]}
        for name, made in results.items()
    }


def planning(folder: Path, count: int) -> float:
    """Processor seconds of an input for the process that cuts a job into parts."""
    folder.mkdir()
    names = folder / "list.txt"
    names.write_text("".join(f"clips/{number:09}.wav\n" for number in range(count)))
    start = time.process_time()
    Job(Folder(folder / "job"), settings={}, inputs=Inputs([], lists=[str(names)]))
    return (time.process_time() - start) / count


def _mean_size(folder: Path) -> float:
    sizes = [path.stat().st_size for path in folder.iterdir()]
    return sum(sizes) / len(sizes)


def rows(
    jobs: Mapping[str, Mapping[str, Mapping[str, float]]],
    *,
    sizes: Mapping[str, float],
    plan_s: float,
) -> list[Row]:
    """Compare; rates in clips a second, by kind of clip and engine; sizes in bytes by kind."""
    two, one, local = (jobs[SOUND][name] for name in ("two", "one", "local"))
    result = [
        Row(
            ours="classify --engine ray, 2 actors",
            value=two["rate"],
            unit="clips/s",
            alternative="--engine local",
            other=local["rate"],
            more_is_better=True,
            goal=Goal("ratio", 0.8),
            note="by the clock: other work on the machine counts",
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
    for kind, made in jobs.items():
        result += [
            Row(
                ours=RATE.format(kind=kind),
                value=made["two"]["core"],
                unit="clips/s",
                alternative="--engine local",
                other=made["local"]["core"],
                more_is_better=True,
                goal=Goal("ratio", 0.8),
            ),
            Row(
                ours=START.format(kind=kind),
                value=made["two"]["start"],
                unit="s",
                alternative="--engine local",
                other=made["local"]["start"],
            ),
            Row(ours=SIZE.format(kind=kind), value=sizes[kind] / 1_000, unit="kB"),
        ]
    result.append(Row(ours=PLANNING, value=plan_s * 1e6, unit="µs"))
    return result
