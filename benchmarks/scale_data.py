"""Clips in a store, training from shards, and the audit of a large corpus."""

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

import numpy as np

from avser.testing.media import write_wav
from benchmarks.material import EMOTIONS, write_clips
from benchmarks.measure import (
    Goal,
    Report,
    Row,
    child,
    in_turn,
    medians,
    threads,
)
from benchmarks.scale import FILES, link, run_watched, small_model

FULL = {"stored": 200, "prepared": 200, "epochs": 3, "audited": 20_000}
QUICK = {"stored": 16, "prepared": 16, "epochs": 1, "audited": 200}


def measure(*, stored: int, prepared: int, epochs: int, audited: int) -> Report:
    """Measure one after another; ratios are of this one run."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "files").mkdir()
        files = write_clips(folder / "files", FILES)
        using, what = small_model(folder)
        few = link(files, folder / "few", stored)
        store = child("scale_data", "store", few, using, count=1)
        shards = child("scale_data", "shards", folder / "shards", prepared, epochs, count=1)
        audit = audit_of(folder / "audit", audited)
    return Report(
        "scale_data: clips in stores and shards, audits",
        f"{stored} wav files of 3 to 4 s at 48 kHz in a store; {what}; {audited} wav files of .5 "
        "s at 16 kHz audited; one compute thread a process",
        rows(store, shards, audit, audited),
    )


def rows(
    store: Mapping[str, float],
    shards: Mapping[str, float],
    audit: Mapping[str, float],
    audited: int,
) -> list[Row]:
    """Compare; rates in clips a second."""
    return [
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
            ours=f"audit of {audited:,} rows, nothing cached",
            value=audited / audit["cpu_s"],
            unit="rows/s of a core",
            note=f"{audit['seconds']:.0f} s, {audit['cpu_s']:.0f} s of them on a core",
        ),
        Row(
            ours="threads of the audit that run or wait for a core, on average",
            value=audit["runnable"],
            unit="threads",
            goal=Goal("at least", 1.0),
            note="under 1 it waits for something else than the processor",
        ),
    ]


def audit_of(folder: Path, count: int) -> dict[str, float]:
    """Seconds of ``avser audit`` on a corpus that it has never seen."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["path,emotion,speaker"]
    for number in range(count):
        samples = rng.normal(0, 0.1, 8_000).astype(np.float32)
        path = write_wav(folder / f"{number:06}.wav", samples)
        lines.append(f"{path.name},{EMOTIONS[number % len(EMOTIONS)]},{number % 40}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    words = ["audit", "-c", "configs/data/manifest.yaml", "--root", str(folder)]
    start = time.time()
    usage = run_watched(
        [sys.executable, "-m", "avser", *words],
        environment={"AVSER_CACHE": str(folder / "cache")},
    )
    seconds = time.time() - start
    runnable = usage.runnable_s / seconds
    return {"seconds": seconds, "cpu_s": usage.cpu_s, "runnable": runnable}


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
    from avser.distributed.shards import plan_shards, write_shards, writer
    from avser.testing.corpora.ravdess import fake_ravdess
    from benchmarks.material import untrained

    os.environ["AVSER_CACHE"] = str(folder / "cache")
    root = fake_ravdess(folder / "ravdess", speakers=6, per_emotion=max(1, count // 48))
    cache = ClipDataModule(Ravdess(root), SpeakerKFold(folds=5), batch_size=16)
    about = {"corpus": "x", "licence": "", "languages": [], "label_target": "acted", "notes": []}
    place = str(folder / "tar")
    clips, waves = cache.prepared.clips, cache.prepared.waves
    plans = plan_shards(clips, lengths=waves.lengths, digests=cache.digests)
    run = writer(Folder(place), clips, waves, faces=folder)
    write_shards(Folder(place), plans, about=about, run=run)
    shards = ShardedClips(ShardCorpus(place), SpeakerKFold(folds=5), batch_size=16)
    net = untrained("audio_crnn").train()
    loaders = {"shards": shards.train_dataloader(), "cache": cache.train_dataloader()}

    def epoch(name: str) -> None:
        for batch in loaders[name]:
            logits = net(batch)["audio"].logits
            torch.nn.functional.cross_entropy(logits, batch["label"]).backward()

    count = sum(len(batch["clip_id"]) for batch in loaders["cache"])
    with threads(1):
        times = in_turn(
            {n: lambda n=n: epoch(n) for n in loaders},  # type: ignore[misc]
            repeats=epochs,
        )
    return {name: count / seconds for name, seconds in medians(times).items()}


def main() -> None:
    """Measure one thing in this process and print it."""
    parser = argparse.ArgumentParser(description="One of: store, shards.")
    parser.add_argument("what")
    parser.add_argument("words", nargs="+")
    own = parser.parse_args()
    if own.what == "store":
        result = store_rates(Path(own.words[0]), Path(own.words[1]))
    else:
        result = shard_rates(Path(own.words[0]), int(own.words[1]), int(own.words[2]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
