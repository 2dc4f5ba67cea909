"""Large jobs: a node that is killed in the middle, and memory in the number of inputs."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from avser.distributed.folder import Folder
from avser.distributed.parts import rows_of
from benchmarks.measure import ROOT, Goal, Report, Row, thread_environment
from benchmarks.scale import (
    FILES,
    job_words,
    link,
    rates,
    run_watched,
    short_clips,
    small_model,
)

FULL = {"clips": 5_000, "inputs": 100_000, "part": 32}
QUICK = {"clips": 128, "inputs": 1_000, "part": 8}

# The cluster has a process of its own: Ray leaves threads behind.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster

small = {"num_cpus": 1, "object_store_memory": 80_000_000}
cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
node = cluster.add_node(**small)
print(cluster.address, flush=True)
if sys.stdin.readline():
    cluster.remove_node(node, allow_graceful=False)
    print("killed", flush=True)
    sys.stdin.readline()
cluster.shutdown()
"""


def measure(*, clips: int, inputs: int, part: int) -> Report:
    """Run the jobs one after another."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        using, what = small_model(folder)
        many = link(short_clips(folder / "files"), folder / "many", clips)
        killed = killed_job(many, folder / "killed", using, part=part)
        tiny = short_clips(folder / "tiny", seconds=0.25)
        memory = {
            number: large_job(
                link(tiny, folder / f"inputs{number}", number), folder / f"job{number}", using
            )
            for number in (inputs // 100, inputs)
        }
    return Report(
        "scale_jobs: large jobs",
        f"links to {FILES} wav files of 1 s (.25 s for memory) at 16 kHz; {what}; one compute "
        "thread a process",
        rows(killed, memory, clips=clips),
    )


def rows(killed: dict[str, int], memory: dict[int, dict[str, float]], *, clips: int) -> list[Row]:
    """Compare; memory by the number of inputs."""
    (few, small), (many, large) = memory.items()
    return [
        Row(
            ours=f"rows of {clips:,} inputs, one of two Ray nodes killed at part "
            f"{killed['finished']} of {killed['parts']}",
            value=killed["rows"],
            unit="rows",
            goal=Goal("at least", clips),
            note=f"{killed['under_way']} parts were under way",
        ),
        Row(ours="of these twice", value=killed["twice"], unit="rows", goal=Goal("at most", 0)),
        Row(
            ours=f"peak memory of the two processes that plan, --engine ray, {many:,} inputs",
            value=large["peak_mb"],
            unit="MB",
            alternative=f"{few:,} inputs",
            other=small["peak_mb"],
            goal=Goal("at most", 1_000),
            note=f"{large['rate']:.0f} rows/s",
        ),
    ]


@contextmanager
def two_nodes() -> Iterator["subprocess.Popen[str]"]:
    """A Ray cluster of two nodes of this machine; the first line of output is its address."""
    environment = {
        **thread_environment(1),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], env=environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as cluster:  # fmt: skip
        yield cluster
        cluster.communicate()


def killed_job(clips: Path, out: Path, using: Path, *, part: int) -> dict[str, int]:
    """Kill a node when a third of the parts is there; count the rows of the finished job."""
    start = time.time()

    def log(text: str) -> None:
        print(f"{time.time() - start:7.1f} s  {text}", file=sys.stderr, flush=True)

    parts = -(-len(list(clips.iterdir())) // part)
    with two_nodes() as cluster:
        assert cluster.stdin is not None and cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        if not address:
            raise RuntimeError("Bad cluster: a node took over half a minute to start.")
        log(f"cluster of two nodes of one core at {address}")
        words = ["--part-clips", str(part), "--engine", "ray", "--address", address]
        with subprocess.Popen(
            job_words(clips, out, using, *words), cwd=ROOT, env=thread_environment(1)
        ) as process:
            while process.poll() is None and _count(out) < parts // 3:
                time.sleep(0.02)
            under_way = sorted(p.name.removesuffix(".attempts") for p in out.glob("*.attempts"))
            finished = _count(out)
            cluster.stdin.write("kill\n")
            cluster.stdin.flush()
            line = cluster.stdout.readline().strip()
            log(f"{finished} of {parts} parts are there; one node: {line}")
            for name in under_way:
                log(f"under way: {name}")
            code = process.wait()
        log(f"avser classify ended with code {code}")
    manifest = json.loads((out / "manifest.json").read_text())
    counts = Counter(
        str(r["path"]) for r in rows_of(Folder(out), [p["name"] for p in manifest["parts"]])
    )
    twice = sum(count > 1 for count in counts.values())
    again = sum((out / name).exists() for name in under_way)
    log(f"{again} of {len(under_way)} parts that were under way are there")
    log(
        f"{counts.total()} rows of {len(counts)} inputs, {twice} twice, {manifest['failed']} errors"
    )
    return {
        "rows": len(counts), "twice": twice, "finished": finished, "parts": parts,
        "under_way": len(under_way),
    }  # fmt: skip


def _count(out: Path) -> int:
    return sum(1 for _ in out.glob("part-*.parquet"))


def large_job(clips: Path, out: Path, using: Path) -> dict[str, float]:
    """Peak memory of the processes that plan a job on Ray, and its rate."""
    usage = run_watched(job_words(clips, out, using, "--engine", "ray"))
    peaks = [usage.peak_of(" -m avser classify"), usage.peak_of("avser.distributed.ray_driver")]
    return {"peak_mb": sum(peaks), **rates(out, usage)}
