"""A hundred files in one process against a hundred processes with one file each."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from avser.bundle import serialization as bundle
from avser.errors import BundleError
from avser.inference.classifier import Failure
from avser.inference.predictor import Predictor
from benchmarks.material import slots, untrained, write_clips
from benchmarks.measure import (
    ROOT,
    Report,
    Row,
    in_turn,
    medians,
    thread_environment,
    threads,
)

FULL = {"files": 100, "sample": 5, "repeats": 3}
QUICK = {"files": 16, "sample": 2, "repeats": 1}


def model(folder: Path) -> tuple[Path, str]:
    """Folder and description of the default model, or of an untrained one like it."""
    with suppress(BundleError):
        return bundle.find(), f"released model {bundle.DEFAULT_MODEL}"
    made = bundle.save(
        untrained("audio_crnn"),
        folder / "model",
        spec=slots("audio_crnn"),
        name="untrained",
        provenance=bundle.Provenance(),
    )
    return made, "untrained model of configs/model/audio_crnn.yaml"


def classify(paths: Sequence[Path], *, using: Path, count: int) -> None:
    """Run ``avser classify`` in a process of its own."""
    words = ["classify", *map(str, paths), "--json", "-", "--device", "cpu", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "avser", *words, "--model", str(using)],
        cwd=ROOT,
        env=thread_environment(count),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def inside(predictor: Predictor, paths: Sequence[Path], *, together: bool) -> int:
    """Classify in this process; return how many files were answered."""
    groups = [paths] if together else [[path] for path in paths]
    result = [answer for group in groups for answer in predictor.classify(group)]
    return sum(not isinstance(answer, Failure) for answer in result)


def measure(*, files: int, sample: int, repeats: int, count: int = 1) -> Report:
    """Time one process with all files, and a sample of processes with one each."""
    with TemporaryDirectory() as temporary, threads(count):
        folder = Path(temporary)
        paths = write_clips(folder, files)
        using, what = model(folder)
        processes = {
            "one": lambda: classify(paths, using=using, count=count),
            "each": lambda: [classify([p], using=using, count=count) for p in paths[:sample]],
        }
        outer = medians(in_turn(processes, repeats=repeats))
        predictor = Predictor.from_pretrained(using, device="cpu")
        loaded = {
            "together": lambda: inside(predictor, paths, together=True),
            "one by one": lambda: inside(predictor, paths, together=False),
        }
        inner = medians(in_turn(loaded, repeats=repeats))
    return Report(
        "batch: classifying many files",
        f"{files} wav files of 3 to 4 s at 48 kHz; {what}; {count} compute thread(s) each, "
        f"2 decoding threads; median of {repeats}",
        rows(outer, inner, files=files, sample=sample),
    )


def rows(outer: dict[str, float], inner: dict[str, float], *, files: int, sample: int) -> list[Row]:
    """Compare; ``outer`` and ``inner`` are seconds for all files (``each``: for the sample)."""
    return [
        Row(
            ours=f"one process, {files} files",
            value=outer["one"],
            unit="s",
            alternative=f"{files} processes",
            other=outer["each"] / sample * files,
            note=f"alternative extrapolated from {sample} processes; start-up is in both",
        ),
        Row(
            ours="Predictor.classify, all files at once",
            value=files / inner["together"],
            unit="clips/s",
            alternative="Predictor.classify, one file a call",
            other=files / inner["one by one"],
            more_is_better=True,
            note="model loaded",
        ),
    ]
