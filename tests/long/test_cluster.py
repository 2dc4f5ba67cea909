"""A job on a Ray cluster of two nodes of this machine, one of which is killed in the middle."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from avser.distributed.folder import Folder
from avser.distributed.parts import rows_of
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle

pytestmark = pytest.mark.long

WAIT_S = 400.0

# The cluster has a process of its own: Ray leaves threads behind.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 1, "include_dashboard": False, "object_store_memory": 80_000_000})
node = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(node, allow_graceful=False)
print("killed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


def test_a_killed_node_loses_no_row_and_repeats_none(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    model = tiny_bundle(tmp_path / "tiny")
    clip = write_wav(tmp_path / "clip.wav", voice("happy", seconds=0.3))
    (tmp_path / "clips").mkdir()
    paths = [str(tmp_path / "clips" / f"{n:04}.wav") for n in range(300)]
    for path in paths:
        os.link(clip, path)
    os.unlink(paths[123])
    Path(paths[123]).write_bytes(b"damaged")
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], env=environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert cluster.stdin is not None and cluster.stdout is not None
    try:
        address = cluster.stdout.readline().strip()
        assert address, "Ray gives a node half a minute to start: the machine is too busy."
        out = tmp_path / "job"
        words = ["classify", str(tmp_path / "clips"), "--model", str(model), "--device", "cpu",
                 "--out", str(out), "--part-clips", "5", "--engine", "ray",
                 "--address", address]  # fmt: skip
        with subprocess.Popen(
            [sys.executable, "-m", "avser", *words],
            env=environment, stderr=subprocess.PIPE, text=True,
        ) as job:  # fmt: skip
            while job.poll() is None and len(list(out.glob("part-*.parquet"))) < 8:
                time.sleep(0.01)
            finished = len(list(out.glob("part-*.parquet")))
            cluster.stdin.write("kill\n")
            cluster.stdin.flush()
            assert cluster.stdout.readline() == "killed\n"
            _, err = job.communicate(timeout=WAIT_S)
        assert job.returncode == 1, err  # one clip is damaged
        assert finished < 60
    finally:
        cluster.communicate("end\n" if cluster.poll() is None else None, timeout=WAIT_S)
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["rows"], manifest["failed"]) == (300, 1)
    names = [part["name"] for part in manifest["parts"]]
    assert sorted(names) == sorted(path.name for path in out.glob("part-*"))
    rows = list(rows_of(Folder(out), names))
    assert [row["path"] for row in rows] == paths
    assert Counter("error" in row for row in rows) == {False: 299, True: 1}
