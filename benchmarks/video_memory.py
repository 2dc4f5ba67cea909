"""Memory while an hour of film is classified: how much in all, and whether it grows with length.

Each film is classified in a process of its own. What counts is all of the process's resident
memory, with Python, torch and the models in it. Sound and face crops wait on the disk.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import Goal, Report, Row, child
from benchmarks.memory import Sampler, resident_mb, status_mb

FULL = {"minutes": 60, "short": 10, "repeats": 1}
QUICK = {"minutes": 3, "short": 1, "repeats": 1}
SIZE, FPS = (180, 320), 5  # small and slow: an hour's pictures are written within half a minute
LIMIT_MB = 1500
GROWTH = 1.15


def classify(path: Path) -> dict[str, float]:
    """Classify a film in this process; return memory in MB and seconds.

    Raises:
        AvserError: the film can't be classified.
        RuntimeError: its sound or its face was not used.
    """
    from avser.inference.classifier import Failure
    from benchmarks.footage import av_predictor

    baseline = resident_mb()
    predictor, _ = av_predictor()
    sampler = Sampler(interval_s=0.05)
    sampler.start()
    start = time.perf_counter()
    (answer,) = predictor.classify([path])
    seconds = time.perf_counter() - start
    sampler.stop()
    if isinstance(answer, Failure):
        raise answer.error
    if answer.modalities != ("audio", "video"):
        raise RuntimeError(f"Bad film {path}: {answer.reason}; look at what is in it.")
    return {
        "baseline_mb": baseline,
        "peak_mb": max(*sampler.peaks, status_mb("VmHWM") or 0.0),  # the kernel misses nothing
        "seconds": seconds,
        "duration_s": answer.duration_s,
        "faces": len(answer.boxes),
    }


def measure(*, minutes: int, short: int, repeats: int, count: int = 2) -> Report:
    """Classify a long and a short film in child processes, in turn."""
    from benchmarks.footage import write_film

    result: dict[str, list[dict[str, Any]]] = {"long": [], "short": []}
    with TemporaryDirectory() as folder:
        films = {
            name: write_film(
                Path(folder) / f"{name}.mp4",
                60 * length,
                size=SIZE,
                fps=FPS,
                sample_rate=16_000,
                preset="ultrafast",
            )
            for name, length in (("long", minutes), ("short", short))
        }
        for _ in range(repeats):
            for name, path in films.items():
                result[name].append(child("video_memory", path, count=count))
    kept = {
        name: {key: statistics.median(r[key] for r in results) for key in results[0]}
        for name, results in result.items()
    }
    return Report(
        "video_memory: an hour of film"
        if minutes == 60
        else f"video_memory: {minutes} min of film",
        f"{SIZE[1]} × {SIZE[0]}, {FPS} pictures a second, with sound; {count} thread(s); "
        f"{kept['long']['baseline_mb']:.0f} MB of it resident after import; "
        f"{kept['long']['faces']:.0f} faces found; median of {repeats} process(es)",
        rows(kept, minutes=minutes, short=short),
    )


def rows(kept: Mapping[str, Mapping[str, float]], *, minutes: int, short: int) -> list[Row]:
    """Judge the peaks, and the speed by the clock on the wall."""
    long, brief = kept["long"], kept["short"]
    return [
        Row(
            ours=f"peak in all, {minutes} min",
            value=long["peak_mb"],
            unit="MB",
            goal=Goal("at most", LIMIT_MB),
        ),
        Row(
            ours=f"peak in all, {minutes} min",
            value=long["peak_mb"],
            unit="MB",
            alternative=f"{short} min",
            other=brief["peak_mb"],
            goal=Goal("at most", round(GROWTH * brief["peak_mb"])),
            note=f"flat: within {GROWTH:g} × the alternative",
        ),
        Row(
            ours=f"speed, {minutes} min",
            value=long["duration_s"] / long["seconds"],
            unit="s of film a second",
            alternative="watching it",
            other=1.0,
            more_is_better=True,
            note=f"real-time factor {long['seconds'] / long['duration_s']:.4f}",
        ),
    ]


def main() -> None:
    """Classify one film in this process and print what `classify` returns."""
    parser = argparse.ArgumentParser(description="One film, with its memory.")
    parser.add_argument("file", type=Path)
    print(json.dumps(classify(parser.parse_args().file)))


if __name__ == "__main__":
    main()
