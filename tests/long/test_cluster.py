"""Jobs on a Ray cluster of two nodes of this machine, whose nodes are killed in the middle."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from avser.cli import main
from avser.data.audio_cache import Prepared, prepare
from avser.datamodules.corpora.ravdess import Ravdess
from avser.distributed.folder import Folder
from avser.distributed.parts import rows_of
from avser.evaluation.predictions import Predictions
from avser.inference.writers import read_rows
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle, tiny_spec

pytestmark = pytest.mark.long

WAIT_S = 400.0

# The cluster has a process of its own: Ray leaves threads behind.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster

small = {"num_cpus": 1, "object_store_memory": 80_000_000}
for left in reversed(range(4)):  # Ray gives a node half a minute, which a busy machine exceeds
    cluster = Cluster()
    try:
        head = cluster.add_node(**small, include_dashboard=False)
        nodes = {"head": head, "node": cluster.add_node(**small)}
        break
    except Exception:
        cluster.shutdown()
        if not left:
            raise
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes[line.strip()], allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
"""


class RunningCluster:
    """A cluster; ``address`` is what a command is given."""

    def __init__(self) -> None:
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER], env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.address = self._line()
        if not self.address:
            self.close()
            pytest.fail("No Ray cluster started in four attempts: the machine is too busy.")

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self, name: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        assert self._line() == "killed"

    @contextmanager
    def killed(self, name: str, out: Path, *, after: int) -> Iterator[list[int]]:
        """Kill a node while the block runs, as soon as a job has so many parts."""
        finished: list[int] = []
        ended = threading.Event()

        def watch() -> None:
            while len(parts := list(out.glob("part-*.parquet"))) < after and not ended.is_set():
                time.sleep(0.01)
            finished.append(len(parts))
            self.kill(name)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield finished
        finally:
            ended.set()
            thread.join()

    def close(self) -> None:
        self._process.communicate(timeout=WAIT_S)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    pytest.importorskip("ray")
    made = RunningCluster()
    yield made
    made.close()


@pytest.fixture
def corpus(tmp_path: Path) -> list[str]:
    """Words of a corpus."""
    root = fake_ravdess(tmp_path / "ravdess", speakers=4, per_emotion=2)
    return ["-c", "configs/data/ravdess.yaml", "--root", str(root)]


def prepared(corpus: list[str], cache: Path) -> tuple[Prepared, list[int]]:
    """What a cache holds of a corpus, and the clips that had to be decoded for that."""
    decoded: list[int] = []
    clips = Ravdess(corpus[-1]).clips()
    return prepare(clips, folder=cache, progress=lambda done, _: decoded.append(done)), decoded


def test_a_cluster_prepares_what_one_process_prepares(
    cluster: RunningCluster, corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: dict[str, list[str]] = {
        "local": [],
        "ray": ["--engine", "ray", "--address", cluster.address],
    }
    for name, words in engines.items():
        monkeypatch.setenv("AVSER_CACHE", str(tmp_path / name))
        assert main(["prepare", *corpus, *words]) == 0
    (ours, decoded), (theirs, _) = (prepared(corpus, tmp_path / n) for n in ("ray", "local"))
    assert not decoded  # nothing was left to do
    assert ours.clips == theirs.clips and len(ours.clips) == 64
    assert ours.waves.digests == theirs.waves.digests
    assert all(ours.waves.intact(index) for index in range(64))
    segments = list((tmp_path / "ray").glob("*.i16"))
    assert sum(path.stat().st_size for path in segments) == 2 * sum(ours.waves.lengths)  # once


def test_a_cluster_trains_the_folds_and_seeds_that_one_machine_trains(
    cluster: RunningCluster, corpus: list[str], tmp_path: Path
) -> None:
    trainer = {"max_epochs": 1, "accelerator": "cpu"}
    tiny = {"model": tiny_spec(), "data": {"batch_size": 4}, "trainer": trainer}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    words = ["crossval", *corpus, "-c", str(tmp_path / "tiny.yaml"), "--folds", "2"]
    ray = ["--engine", "ray", "--address", cluster.address, "--seeds", "0,1"]
    assert main([*words, *ray, "--out", str(tmp_path / "ray")]) == 0
    assert main([*words, "--jobs", "2", "--out", str(tmp_path / "local")]) == 0
    results = json.loads((tmp_path / "ray/results.json").read_text())
    assert not any("UNFINISHED" in note for note in results["notes"])
    folds = [tmp_path / "ray" / f"seed{s}/fold{k}" for s in (0, 1) for k in (0, 1)]
    assert all((fold / "DONE").exists() for fold in folds)
    tested = [c for f in folds for c in Predictions.load(f / "predictions/test.json").clip_ids]
    assert set(Counter(tested).values()) == {2} and len(tested) == 2 * 64  # once a seed
    for fold in folds[:2]:  # seed 0
        other = tmp_path / "local" / fold.relative_to(tmp_path / "ray")
        ours, theirs = (Predictions.load(f / "predictions/test.json") for f in (fold, other))
        assert ours.clip_ids == theirs.clip_ids
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-4)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A command of 300 clips in 60 parts; clip 123 is damaged."""
    clip = write_wav(tmp_path / "clip.wav", voice("happy", seconds=0.3))
    (tmp_path / "clips").mkdir()
    for n in range(300):
        os.link(clip, tmp_path / "clips" / f"{n:04}.wav")
    damaged = tmp_path / "clips" / "0123.wav"
    damaged.unlink()
    damaged.write_bytes(b"damaged")
    model = str(tiny_bundle(tmp_path / "tiny"))
    return ["classify", str(tmp_path / "clips"), "--model", model, "--device", "cpu", "--quiet",
            "--out", str(tmp_path / "job"), "--part-clips", "5"]  # fmt: skip


def test_a_killed_node_loses_no_row_and_repeats_none(
    cluster: RunningCluster, words: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "job"
    with cluster.killed("node", out, after=8) as finished:
        assert main([*words, "--engine", "ray", "--address", cluster.address]) == 1  # one damaged
    assert 8 <= finished[0] < 60
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["rows"], manifest["failed"]) == (300, 1)
    names = [part["name"] for part in manifest["parts"]]
    assert sorted(names) == sorted(path.name for path in out.glob("part-*"))
    rows = list(rows_of(Folder(out), names))
    assert [Path(row["path"]).name for row in rows] == [f"{n:04}.wav" for n in range(300)]
    assert Counter("error" in row for row in rows) == {False: 299, True: 1}


def test_a_cluster_that_goes_away_is_one_sentence_and_the_job_goes_on(
    cluster: RunningCluster, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "job", tmp_path / "rows.csv"
    with cluster.killed("head", out, after=8) as finished:
        assert main([*words, "--engine", "ray", "--address", cluster.address]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"avser classify: Bad cluster {cluster.address}: it went away with ")
    assert line.endswith("then run the same command: what is finished is kept.")
    assert 8 <= finished[0] < 60 and not (out / "manifest.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    assert main([*words, "--resume", "--csv", str(table)]) == 1  # one damaged
    assert kept and all(path.stat().st_mtime_ns == time for path, time in kept.items())
    rows = list(read_rows(str(table)))
    assert [Path(row["path"]).name for row in rows] == [f"{n:04}.wav" for n in range(300)]
