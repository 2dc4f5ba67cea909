"""Memory while an hour of sound is classified: how much, and whether it grows with length.

Each file is classified in a process of its own. Its baseline is the resident memory after torch
and the predictor are imported; a thread samples it while a network is made and the file is
classified. The alternative is to decode a whole file and answer it in one pass, which grows with
the file.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import Goal, Report, Row, child

FULL = {"minutes": 60, "short": 10, "repeats": 1}
QUICK = {"minutes": 6, "short": 2, "repeats": 1}
HOP_S = 30.72  # of the predictor's windows
LIMIT_MB = 1000
SLACK_MB = 48  # what allocators differ by from run to run


def status_mb(field: str) -> float | None:
    """A field of ``/proc/self/status`` in MB, or None where there is none."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return None


def resident_mb() -> float:
    """Resident memory now; where that can't be asked, the largest so far."""
    now = status_mb("VmRSS")
    if now is not None:
        return now
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


class Sampler(threading.Thread):
    """Samples resident memory; `mark` records the position in the file.

    Attributes:
        peaks: largest resident memory in MB, by window of the file.
    """

    def __init__(self, *, interval_s: float = 0.01) -> None:
        super().__init__(daemon=True)
        self.peaks: list[float] = [0.0]
        self._interval_s, self._over = interval_s, threading.Event()

    def mark(self, *_: object) -> None:
        """A window was answered."""
        self._look()
        self.peaks.append(0.0)

    def run(self) -> None:
        """Sample until `stop`."""
        while not self._over.wait(self._interval_s):
            self._look()

    def stop(self) -> None:
        """End sampling."""
        self._over.set()
        self.join()
        self._look()

    def _look(self) -> None:
        self.peaks[-1] = max(self.peaks[-1], resident_mb())


def classify(path: Path, *, model: str = "audio_crnn") -> dict[str, float]:
    """Classify a file in this process; return memory in MB and seconds."""
    from avser.inference.classifier import Failure
    from avser.inference.predictor import Predictor

    baseline, before = resident_mb(), status_mb("VmHWM")
    from benchmarks.material import untrained

    predictor = Predictor(untrained(model), device="cpu")
    sampler = Sampler()
    hook = predictor.net.register_forward_hook(sampler.mark)
    sampler.start()
    start = time.perf_counter()
    (answer,) = predictor.classify([path])
    seconds = time.perf_counter() - start
    sampler.stop()
    hook.remove()
    if isinstance(answer, Failure):
        raise answer.error
    peak, after = max(sampler.peaks), status_mb("VmHWM")
    if before is not None and after is not None and after > before:
        peak = max(peak, after)  # the kernel misses nothing
    early = round(600 / HOP_S)
    return {
        "baseline_mb": baseline,
        "above_mb": peak - baseline,
        "first_ten_mb": max(sampler.peaks[:early]) - baseline,
        "whole_mb": max(sampler.peaks) - baseline,
        "windows": len(sampler.peaks) - 1,
        "seconds": seconds,
        "duration_s": answer.duration_s,
    }


def at_once(path: Path, *, model: str = "audio_crnn") -> dict[str, float]:
    """Answer a whole file in one pass: the simple way, which grows with the file."""
    import torch

    from avser.media.reader import read_audio
    from avser.types import audio_batch

    baseline = resident_mb()
    from benchmarks.material import untrained

    net = untrained(model)
    sampler = Sampler()
    sampler.start()
    start = time.perf_counter()
    with torch.inference_mode():
        wave = torch.from_numpy(read_audio(path))
        net.predict(net(audio_batch(wave[None], torch.tensor([len(wave)]))))
    seconds = time.perf_counter() - start
    sampler.stop()
    return {"above_mb": max(sampler.peaks) - baseline, "seconds": seconds}


def measure(*, minutes: int, short: int, repeats: int, count: int = 1) -> Report:
    """Classify a long and a short file in child processes, in turn."""
    from benchmarks.material import write_recording

    result: dict[str, list[dict[str, Any]]] = {"long": [], "short": [], "at once": []}
    with TemporaryDirectory() as folder:
        files = {
            "long": write_recording(Path(folder) / "long.flac", minutes),
            "short": write_recording(Path(folder) / "short.flac", short),
        }
        for _ in range(repeats):
            for name, path in files.items():
                result[name].append(child("memory", path, count=count))
            result["at once"].append(child("memory", files["short"], "--at-once", count=count))
    kept = {name: _medians(results) for name, results in result.items()}
    return Report(
        "memory: an hour of sound" if minutes == 60 else f"memory: {minutes} minutes of sound",
        f"16 kHz mono FLAC; {count} thread(s); above {kept['long']['baseline_mb']:.0f} MB resident "
        f"after import; median of {repeats} process(es)",
        rows(kept, minutes=minutes, short=short),
    )


def _medians(results: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(r[key] for r in results) for key in results[0]}


def rows(kept: Mapping[str, Mapping[str, float]], *, minutes: int, short: int) -> list[Row]:
    """Compare peaks above the baseline, and the speed with the clock on the wall."""
    long, brief = kept["long"], kept["short"]
    early = min(10, minutes)
    return [
        Row(
            ours=f"peak, {minutes} min in windows",
            value=long["above_mb"],
            unit="MB",
            alternative=f"{short} min in one pass",
            other=kept["at once"]["above_mb"],
            goal=Goal("at most", LIMIT_MB),
        ),
        Row(
            ours=f"peak, {minutes} min in windows",
            value=long["above_mb"],
            unit="MB",
            alternative=f"{short} min in windows",
            other=brief["above_mb"],
            goal=Goal("at most", round(1.1 * brief["above_mb"] + SLACK_MB)),
            note=f"flat: within 1.1 × the alternative + {SLACK_MB} MB",
        ),
        Row(
            ours="peak, whole file",
            value=long["whole_mb"],
            unit="MB",
            alternative=f"first {early} min of the same file",
            other=long["first_ten_mb"],
            goal=Goal("at most", round(1.1 * long["first_ten_mb"] + SLACK_MB)),
            note="sampled",
        ),
        Row(
            ours=f"speed, {minutes} min in windows",
            value=long["duration_s"] / long["seconds"],
            unit="s of sound a second",
            alternative="listening to it",
            other=1.0,
            more_is_better=True,
            note=f"real-time factor {long['seconds'] / long['duration_s']:.4f}",
        ),
    ]


def main() -> None:
    """Classify one file in this process and print what `classify` returns."""
    parser = argparse.ArgumentParser(description="One file, with its memory.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--at-once", action="store_true", help="in one pass, without windows")
    own = parser.parse_args()
    print(json.dumps((at_once if own.at_once else classify)(own.file)))


if __name__ == "__main__":
    main()
