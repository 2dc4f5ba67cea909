"""Trainings that are killed, interrupted, or spread over processes."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from avser.bundle import serialization as bundle
from avser.evaluation.predictions import Predictions
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.nets import tiny_spec
from avser.training.run_folder import history

pytestmark = pytest.mark.long

SPY = '''
"""A callback that writes down what each process trains on."""
import os
import time
from pathlib import Path

from pytorch_lightning import Callback


class Spy(Callback):
    def on_train_batch_start(self, trainer, module, batch, index):
        line = f"{os.getppid()} {trainer.current_epoch} {index} {','.join(batch['clip_id'])}"
        with Path(os.environ["SPY"], f"rank{trainer.global_rank}.txt").open("a") as file:
            print(line, file=file)
        time.sleep(0.05)  # so that a kill hits the middle of an epoch
'''
EPOCHS = 4


class Train:
    """Runs avser in a process of its own, with a tiny model and the spy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        self._started: list[subprocess.Popen[str]] = []
        (folder / "spy.py").write_text(SPY)
        fake_ravdess(folder / "ravdess", speakers=4, per_emotion=2)
        config = {
            "model": tiny_spec(),
            "data": {"batch_size": 4},
            "trainer": {
                "max_epochs": EPOCHS,
                "accelerator": "cpu",
                "enable_progress_bar": False,
                "callbacks": [{"class_path": "spy.Spy"}],
            },
        }
        (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
        corpus = ["-c", "configs/data/ravdess.yaml", "--root", str(folder / "ravdess")]
        self.words = [*corpus, "-c", str(folder / "tiny.yaml")]
        two = "--data.split.init_args.folds=2"
        self.fit = ["fit", *self.words, two, "--out", str(self.run)]

    def start(self, words: list[str], *, before: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a command; ``before`` are a module that starts it, and its words."""
        path = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, "-m", *before, "avser", *words],
            env={**os.environ, "PYTHONPATH": path, "SPY": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group that can be signalled as a terminal does
            # a runner in the background ignores Ctrl-C, and its children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """Kill what a failed test left running, with the children of each process."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def finish(self, words: list[str]) -> tuple[int, str, str]:
        process = self.start(words)
        out, err = process.communicate(timeout=500)
        return process.returncode, out, err

    def seen(self, rank: int = 0) -> list[tuple[int, int, list[str]]]:
        """Epoch, batch and clips of all that a rank was given."""
        path = self.folder / f"rank{rank}.txt"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(e), int(i), clips.split(",")) for _, e, i, clips in rows]


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Train]:
    train = Train(tmp_path)
    try:
        yield train
    finally:
        train.close()


def wait(for_what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600  # machines may be busy
    while not for_what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def signal_group(process: subprocess.Popen[str], number: int) -> int:
    os.killpg(process.pid, number)
    process.communicate(timeout=300)
    return process.returncode


def epochs_of(run: Path) -> list[list[int]]:
    """Epochs that have a validation figure, for each start of the run."""
    result = []
    for path in sorted((run / "logs").glob("start*/metrics.csv")):
        rows = list(csv.DictReader(path.read_text().splitlines()))
        result.append([int(row["epoch"]) for row in rows if row["validation/uar"]])
    return result


def test_killed_training_goes_on_from_its_last_epoch(train: Train) -> None:
    process = train.start(train.fit)
    last = train.run / "checkpoints" / "last.ckpt"
    wait(lambda: last.exists() and bool(train.seen()) and train.seen()[-1][:2] >= (1, 1), process)
    assert signal_group(process, signal.SIGKILL) == -signal.SIGKILL
    before = train.seen()
    killed = before[-1][0]
    assert 1 <= killed < EPOCHS and not (train.run / "DONE").exists()

    code, out, err = train.finish(train.fit)
    assert (code, err.strip()) == (0, "")
    assert "UAR" in out
    after = train.seen()[len(before) :]
    assert [e for e, i, _ in after if i == 0] == list(range(killed, EPOCHS))
    # the epoch that was killed is given the batches that it had
    of_killed = [row for row in before if row[0] == killed]
    assert after[: len(of_killed)] == of_killed
    orders = {str([row[2] for row in after if row[0] == e]) for e in range(killed, EPOCHS)}
    assert len(orders) == EPOCHS - killed
    assert epochs_of(train.run) == [list(range(killed)), list(range(killed, EPOCHS))]
    curves = history(train.run)
    assert {len(values) for values in curves.values()} == {EPOCHS}
    assert (train.run / "DONE").read_text() == f"{EPOCHS} epochs\n"
    assert bundle.load(train.run).provenance.epochs == EPOCHS

    code, _, err = train.finish(train.fit)
    assert code == 1 and "it is finished" in err and err.count("\n") == 1


def test_interrupted_training_says_so_and_goes_on(train: Train) -> None:
    process = train.start(train.fit)
    last = train.run / "checkpoints" / "last.ckpt"
    wait(lambda: last.exists() and train.seen()[-1][0] >= 1, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "avser fit: interrupted." in err and "Traceback" not in err
    assert train.finish(train.fit)[0] == 0
    assert [e for start in epochs_of(train.run) for e in start] == list(range(EPOCHS))


TWO = "--trainer.accelerator cpu --trainer.strategy ddp --trainer.devices 2".split()
BAR = "--trainer.enable_progress_bar=true"  # what a user has; the settings here turn it off


def test_two_processes_train_one_model(train: Train) -> None:
    train.run.mkdir()
    (train.run / "config.yaml").write_text("{}")  # an old, finished run
    (train.run / "DONE").write_text("9 epochs\n")
    code, out, err = train.finish([*train.fit, *TWO, BAR, "--overwrite"])
    assert (code, err.strip()) == (0, "")
    assert out.count("Model: ") == 1  # one process speaks
    first, second = train.seen(0), train.seen(1)
    assert [row[:2] for row in first] == [row[:2] for row in second]  # as many updates in each
    assert {e for e, _, _ in first} == set(range(EPOCHS))
    for epoch in range(EPOCHS):
        shares = [[c for e, _, cs in rows if e == epoch for c in cs] for rows in (first, second)]
        assert shares[0] and not set(shares[0]) & set(shares[1])
        assert all(len(share) == len(set(share)) for share in shares)
    assert len(list(train.run.glob("bundle/model-*.safetensors"))) == 1
    assert (train.run / "DONE").read_text() == f"{EPOCHS} epochs\n"
    assert epochs_of(train.run) == [list(range(EPOCHS))]
    loaded = bundle.load(train.run)
    assert loaded.provenance.epochs == EPOCHS and loaded.name == "run"


def test_two_processes_log_what_one_logs(train: Train) -> None:
    """With batches of half the size, the updates are the same but for rounding and their order."""
    train.finish([*train.fit, "--data.batch_size=8"])
    alone = history(train.run)
    code, _, err = train.finish([*train.fit, *TWO, BAR, "--data.batch_size=4", "--overwrite"])
    assert (code, err.strip()) == (0, "")
    both = history(train.run)
    assert set(both) == set(alone)
    for name in ("train/loss", "validation/loss"):
        assert both[name] == pytest.approx(alone[name], rel=0.15)


def test_two_machines_train_one_model(train: Train) -> None:
    """Joined by torchrun over this machine's loopback, they log what one process logs."""
    assert train.finish([*train.fit, "--data.batch_size=8"])[0] == 0
    alone = history(train.run)
    train.run.rename(train.folder / "alone")
    (train.folder / "rank0.txt").unlink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machines = "--trainer.accelerator cpu --trainer.strategy ddp --trainer.devices 1".split()
    words = [*train.fit, *machines, "--trainer.num_nodes=2", "--data.batch_size=4", BAR]
    nodes = [
        train.start(
            words,
            before=["torch.distributed.run", "--nnodes=2", "--nproc-per-node=1",
                    f"--node-rank={rank}", "--master-addr=127.0.0.1", f"--master-port={port}",
                    "-m"],
        )
        for rank in (0, 1)
    ]  # fmt: skip
    (out, err), (silent, _) = (node.communicate(timeout=600) for node in nodes)
    assert [node.returncode for node in nodes] == [0, 0], err
    assert out.count("Model: ") == 1 and "Model: " not in silent  # one report, by one machine
    first, second = train.seen(0), train.seen(1)
    for epoch in range(EPOCHS):
        shares = [{c for e, _, cs in rows if e == epoch for c in cs} for rows in (first, second)]
        assert shares[0] and shares[1] and not shares[0] & shares[1]
    both = history(train.run)
    assert set(both) == set(alone)
    for name in ("train/loss", "validation/loss"):
        assert both[name] == pytest.approx(alone[name], rel=0.15)
    tests = [
        Predictions.load(run / "predictions/test.json")
        for run in (train.run, train.folder / "alone")
    ]
    assert tests[0].clip_ids == tests[1].clip_ids
    assert tests[0].probabilities == pytest.approx(tests[1].probabilities, abs=0.1)


@pytest.mark.parametrize("epochs", [-1, 2])
def test_two_processes_freeze_a_stream(train: Train, epochs: int) -> None:
    """Only the fused head and the video branch learn, then all."""
    config = yaml.safe_load((train.folder / "tiny.yaml").read_text())
    config["model"] |= {
        "video": {
            "class_path": "avser.models.encoders.features.FeatureVideoEncoder",
            "init_args": {"features": 35, "dim": 8, "normalise": "none"},
        },
        "fusion": {
            "class_path": "avser.models.fusion.concat.ConcatFusion",
            "init_args": {"width": 8},
        },
        "freeze": {"audio": epochs},
    }
    (train.folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    code, _, err = train.finish([*train.fit, *TWO, BAR])
    assert (code, err.strip()) == (0, "")


def test_sigterm_ends_both_processes(train: Train) -> None:
    process = train.start([*train.fit, *TWO, BAR])
    wait(lambda: bool(train.seen(0)) and bool(train.seen(1)), process)
    pids = children_of(process.pid)
    assert pids
    process.terminate()
    process.communicate(timeout=300)
    assert process.returncode != 0
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_crossval_goes_on(train: Train, number: signal.Signals) -> None:
    out = train.folder / "cv"
    words = ["crossval", *train.words, "--folds", "2", "--out", str(out)]
    process = train.start(words)
    done, last = out / "seed0/fold0/DONE", out / "seed0/fold1/checkpoints/last.ckpt"
    wait(lambda: last.exists() and train.seen()[-1][0] >= 1, process)
    code = signal_group(process, number)
    assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)
    time.sleep(1)  # a fold that outlived its parent would go on
    before = len(train.seen())
    stamp = done.stat().st_mtime_ns

    code, message, err = train.finish(words)
    assert (code, err) == (0, "")
    assert "seed 0 fold 0" in message and "seed 0 fold 1" in message
    assert done.stat().st_mtime_ns == stamp  # the finished fold is not touched
    resumed = train.seen()[before:]
    assert resumed[0][0] >= 1  # nor does the other begin anew
    assert [e for start in epochs_of(out / "seed0/fold1") for e in start] == list(range(EPOCHS))
    assert (out / "results.json").is_file() and (out / "report.html").is_file()
