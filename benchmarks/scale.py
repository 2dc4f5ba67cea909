"""Jobs of many clips: engines, stores, shards, and the memory of the process that plans."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.batch import model
from benchmarks.material import write_clips
from benchmarks.measure import (
    ROOT,
    Goal,
    Report,
    Row,
    child,
    in_turn,
    medians,
    thread_environment,
    threads,
)

FULL = {"clips": 1_000, "stored": 200, "inputs": 100_000, "part": 32, "epochs": 3}
QUICK = {"clips": 64, "stored": 16, "inputs": 2_000, "part": 8, "epochs": 1}

_FILES = 16  # that are written; the clips of a job are links to them


def job(clips: Path, out: Path, using: Path, *words: str, count: int = 1) -> dict[str, float]:
    """Classify a folder in parts; return clips a second between parts, and seconds in all.

    The rate begins with the first part that is there: what comes before it is start-up.
    """
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "avser", "classify", str(clips), "--model", str(using), "--device",
         "cpu", "--quiet", "--out", str(out), *words],
        cwd=ROOT, env=thread_environment(count), check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    parts = json.loads((out / "manifest.json").read_text())["parts"]
    ends = sorted(((out / p["name"]).stat().st_mtime, p["rows"]) for p in parts)
    rows = sum(n for _, n in ends[1:])
    return {"rate": rows / max(ends[-1][0] - ends[0][0], 1e-3), "seconds": seconds}


def link(files: list[Path], folder: Path, count: int) -> Path:
    """A folder of so many links to a few files."""
    folder.mkdir()
    for number in range(count):
        os.link(files[number % len(files)], folder / f"{number:06}.wav")
    return folder


def measure(*, clips: int, stored: int, inputs: int, part: int, epochs: int) -> Report:
    """Run the jobs one after another; ratios are of this one run."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = write_clips(_made(folder / "files"), _FILES)
        using, what = model(folder)
        many = link(files, folder / "many", clips)
        size = ["--part-clips", str(part)]
        jobs = {
            "local": job(many, folder / "local", using, *size),
            "one": job(many, folder / "one", using, *size, "--engine", "ray", "--actors", "1"),
            "two": job(many, folder / "two", using, *size, "--engine", "ray", "--actors", "2"),
        }
        few = link(files, folder / "few", stored)
        store = child("scale", "store", few, using, count=1)
        shards = child("scale", "shards", folder / "shards", stored, epochs, count=1)
        memory = {}
        for number in (inputs // 100, inputs):
            place = link(files, folder / f"inputs{number}", number)
            memory[number] = child("scale", "plan", place, using, count=1)["peak_mb"]
    return Report(
        "scale: jobs of many clips",
        f"{clips} links to {_FILES} wav files of 3 to 4 s at 48 kHz, parts of {part}; {what}; one "
        "compute thread a process; rates without start-up",
        rows(jobs, store, shards, memory),
    )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def rows(
    jobs: Mapping[str, Mapping[str, float]],
    store: Mapping[str, float],
    shards: Mapping[str, float],
    memory: Mapping[int, float],
) -> list[Row]:
    """Compare; rates in clips a second, memory in MB by the number of inputs."""
    (few, small), (many, large) = memory.items()
    return [
        Row(
            ours="classify --engine ray, 2 actors",
            value=jobs["two"]["rate"],
            unit="clips/s",
            alternative="--engine local",
            other=jobs["local"]["rate"],
            more_is_better=True,
            goal=Goal("ratio", 0.8),
            note=f"start-up {jobs['two']['seconds']:.0f} against {jobs['local']['seconds']:.0f} s "
            "with the work",
        ),
        Row(
            ours="classify --engine ray, 2 actors",
            value=jobs["two"]["rate"],
            unit="clips/s",
            alternative="1 actor",
            other=jobs["one"]["rate"],
            more_is_better=True,
            note="growth on this machine's cores",
        ),
        Row(
            ours="clips in S3 (a server on this machine)",
            value=store["s3"],
            unit="clips/s",
            alternative="the same as files",
            other=store["files"],
            more_is_better=True,
            goal=Goal("ratio", 0.7),
            note="the server takes part of the same cores",
        ),
        Row(
            ours="training from shards",
            value=shards["shards"],
            unit="clips/s",
            alternative="from the cache",
            other=shards["cache"],
            more_is_better=True,
            goal=Goal("ratio", 0.8),
            note="loading, forward and backward",
        ),
        Row(
            ours=f"peak memory, a job of {many:,} inputs planned",
            value=large,
            unit="MB",
            alternative=f"{few:,} inputs",
            other=small,
            goal=Goal("at most", 1_000),
        ),
    ]


# -- child processes -----------------------------------------------------------------------------


@contextmanager
def s3_server() -> Iterator[None]:
    """An S3 server in a process of its own, which the environment names."""
    code = (
        "from moto.server import ThreadedMotoServer as S\n"
        "s = S(ip_address='127.0.0.1', port=0, verbose=False); s.start()\n"
        "print(s.get_host_and_port()[1], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        lines = (line.strip() for line in server.stdout or ())
        port = next(line for line in lines if line.isdigit())
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        }  # fmt: skip
        yield
        server.kill()


def store_rates(folder: Path, using: Path) -> dict[str, float]:
    """Clips a second from S3 and from files, the model loaded."""
    import fsspec

    from avser.inference.classifier import Failure
    from avser.inference.predictor import Predictor

    paths = sorted(map(str, folder.iterdir()))
    predictor = Predictor.from_pretrained(str(using), device="cpu")
    with s3_server(), threads(1):
        bucket = fsspec.filesystem("s3")
        bucket.mkdir("clips")
        for path in paths:
            bucket.put_file(path, f"clips/{Path(path).name}")
        places = {"files": paths, "s3": [f"s3://clips/{Path(p).name}" for p in paths]}

        def run(name: str) -> None:
            results = list(predictor.classify(places[name], workers=4))
            if any(isinstance(result, Failure) for result in results):
                raise RuntimeError(f"Bad store: {results[0]}")

        times = in_turn({n: lambda n=n: run(n) for n in places}, repeats=3)  # type: ignore[misc]
    return {name: len(paths) / seconds for name, seconds in medians(times).items()}


def shard_rates(folder: Path, count: int, epochs: int) -> dict[str, float]:
    """Clips a second of training epochs, from shards and from the cache."""
    import torch

    from avser.data.splits import SpeakerKFold
    from avser.datamodules.clips import ClipDataModule
    from avser.datamodules.corpora.ravdess import Ravdess
    from avser.datamodules.shards import ShardCorpus, ShardedClips
    from avser.distributed.folder import Folder
    from avser.distributed.shards import write_shards
    from avser.testing.corpora.ravdess import fake_ravdess
    from benchmarks.material import untrained

    os.environ["AVSER_CACHE"] = str(folder / "cache")
    root = fake_ravdess(folder / "ravdess", speakers=6, per_emotion=max(1, count // 48))
    cache = ClipDataModule(Ravdess(root), SpeakerKFold(folds=5), batch_size=16)
    about = {"corpus": "x", "licence": "", "languages": [], "label_target": "acted", "notes": []}
    place = str(folder / "tar")
    write_shards(
        Folder(place), cache.prepared.clips, cache.prepared.waves, cache.digests, about=about
    )
    shards = ShardedClips(ShardCorpus(place), SpeakerKFold(folds=5), batch_size=16)
    net = untrained("audio_crnn").train()
    loaders = {"shards": shards.train_dataloader(), "cache": cache.train_dataloader()}

    def epoch(name: str) -> None:
        for batch in loaders[name]:
            logits = net(batch)["audio"].logits
            torch.nn.functional.cross_entropy(logits, batch["label"]).backward()

    clips = sum(len(batch["clip_id"]) for batch in loaders["cache"])
    with threads(1):
        times = in_turn(
            {n: lambda n=n: epoch(n) for n in loaders},  # type: ignore[misc]
            repeats=epochs,
        )
    return {name: clips / seconds for name, seconds in medians(times).items()}


def planned(folder: Path, using: Path) -> dict[str, float]:
    """Peak of a process that plans a job of a folder and does one part of it."""
    from avser.cli import main as avser

    with TemporaryDirectory() as out:
        words = ["classify", str(folder), "--model", str(using), "--device", "cpu", "--quiet",
                 "--out", out, "--part-clips", "16", "--shard", "1/100000"]  # fmt: skip
        code = avser(words)
    if code:
        raise RuntimeError(f"Bad job: code {code}")
    with open("/proc/self/status", encoding="utf-8") as file:
        peak = next(line for line in file if line.startswith("VmHWM"))
    return {"peak_mb": int(peak.split()[1]) / 1024}


def main() -> None:
    """Measure one thing in this process and print it."""
    parser = argparse.ArgumentParser(description="One of: store, shards, plan.")
    parser.add_argument("what")
    parser.add_argument("words", nargs="+")
    own = parser.parse_args()
    result: Any
    if own.what == "store":
        result = store_rates(Path(own.words[0]), Path(own.words[1]))
    elif own.what == "shards":
        result = shard_rates(Path(own.words[0]), int(own.words[1]), int(own.words[2]))
    else:
        result = planned(Path(own.words[0]), Path(own.words[1]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
