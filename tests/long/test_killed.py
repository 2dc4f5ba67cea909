"""Commands that are ended at random moments: nothing is corrupt, lost or done twice.

A moment is something that can be observed (rows, bytes, batches), never a time.
"""

import json
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from forking import Forks, ForkServer, folder_size

from avser.bundle import serialization as bundle
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle, tiny_spec
from avser.training.run_folder import history

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
]

SIGNALS = [signal.SIGKILL, signal.SIGTERM] * 5
CLIPS, EPOCHS = 2_000, 12

SPY = '''
"""A callback that writes down what is trained on."""
import os
import time
from pathlib import Path

from pytorch_lightning import Callback


class Spy(Callback):
    def on_train_batch_start(self, trainer, module, batch, index):
        with Path(os.environ["SPY"]).open("a") as file:
            print(trainer.current_epoch, index, *batch["clip_id"], file=file)
        time.sleep(0.02)  # so that a kill hits the middle of an epoch
'''


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    made = ForkServer()
    yield made
    made.close()


@pytest.fixture
def forks(server: ForkServer, tmp_path: Path) -> Forks:
    (tmp_path / "spy.py").write_text(SPY)
    own = {"AVSER_CACHE": str(tmp_path / "cache"), "SPY": str(tmp_path / "seen.txt")}
    own["PYTHONPATH"] = str(tmp_path)  # where the process that trains the folds finds the spy
    return Forks(server, log=tmp_path / "log.txt", path=[tmp_path], environment=own)


def end_often(
    forks: Forks,
    words: list[str],
    *,
    moment: Callable[[random.Random], Callable[[], bool]],
    signals: list[signal.Signals] = SIGNALS,
    anew: bool = False,
) -> Counter[str]:
    """Run a command, end it at a moment, run it again, ...; last it is to succeed.

    Args:
        forks: that run it.
        words: of the command.
        moment: draws what is to be seen before a run is ended.
        signals: that end the runs.
        anew: go on after a run that finished, as the command does all its work again.
    """
    chance, counts = random.Random(0), Counter[str]()
    for number in signals:
        code = forks.run(words, until=moment(chance), number=number)
        ended = code in (-number, 128 + number)
        assert ended or code == 0, forks.said()
        counts[number.name if ended else "finished before"] += 1
        if not ended and not anew:
            break
    assert forks.run(words) in (0, 1)  # a finished training is refused
    assert "Traceback" not in forks.said()
    print(f"{words[0]}: {dict(counts)}")
    assert sum(counts.values()) - counts["finished before"] >= 2, counts
    return counts


def test_prepare(forks: Forks, tmp_path: Path) -> None:
    root, cache = tmp_path / "clips", tmp_path / "cache"
    for n in range(400):
        write_wav(root / "s1" / "happy" / f"{n:03}.wav", voice("happy", seconds=0.5, seed=n))
    total = 400 * 16_000
    words = ["prepare", "--corpus", "folders", "--root", str(root)]

    def moment(chance: random.Random) -> Callable[[], bool]:
        at = folder_size(cache) + chance.uniform(0.0, 0.15) * total
        return lambda: folder_size(cache) > at

    end_often(forks, words, moment=moment)
    (index,) = cache.rglob("index.sqlite")
    with sqlite3.connect(index) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM clips").fetchone()
        (check,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    assert (rows, check) == (400, "ok")
    assert "400 clips of folders" in forks.said()


@pytest.mark.parametrize("linked", [False, True])
def test_classify(forks: Forks, tmp_path: Path, linked: bool) -> None:
    model, clips = tiny_bundle(tmp_path / "tiny"), tmp_path / "clips"
    first = write_wav(tmp_path / "clip.wav", voice("happy", seconds=0.3))
    clips.mkdir()
    link = os.symlink if linked else os.link
    for n in range(CLIPS):
        link(first, clips / f"{n:04}.wav")
    out, log = tmp_path / "out.json", tmp_path / "out.json.part.jsonl"
    words = ["classify", str(clips), "--model", str(model), "--device", "cpu", "--quiet"]
    words += ["--json", str(out), "--csv", str(tmp_path / "out.csv")]

    def rows() -> int:
        return log.read_bytes().count(b"\n") if log.exists() else 0

    def moment(chance: random.Random) -> Callable[[], bool]:
        at = rows() + chance.randrange(1, CLIPS // 10)
        return lambda: rows() > at

    end_often(forks, words, moment=moment)
    names = [Path(row["path"]).name for row in json.loads(out.read_text())]
    assert names == [f"{n:04}.wav" for n in range(CLIPS)]  # none twice, none missing
    assert len((tmp_path / "out.csv").read_text().splitlines()) == CLIPS + 1
    assert not log.exists()


@pytest.fixture
def training(tmp_path: Path) -> list[str]:
    """Words of a tiny training that the spy watches."""
    fake_ravdess(tmp_path / "ravdess", speakers=4, per_emotion=2)
    config = {
        "model": tiny_spec(),
        "data": {"batch_size": 8},
        "trainer": {
            "max_epochs": EPOCHS,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "spy.Spy"}],
        },
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    corpus = ["-c", "configs/data/ravdess.yaml", "--root", str(tmp_path / "ravdess")]
    return [*corpus, "-c", str(tmp_path / "tiny.yaml"), "--data.split.init_args.folds=2"]


def batches(tmp_path: Path) -> int:
    path = tmp_path / "seen.txt"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def after_batches(tmp_path: Path, most: int) -> Callable[[random.Random], Callable[[], bool]]:
    def moment(chance: random.Random) -> Callable[[], bool]:
        at = batches(tmp_path) + chance.randrange(1, most)
        return lambda: batches(tmp_path) > at

    return moment


def whole(run: Path) -> None:
    """A run has every epoch once in its curves, and a bundle that loads."""
    assert {len(values) for values in history(run).values()} == {EPOCHS}
    assert bundle.load(run).provenance.epochs == EPOCHS
    assert not list(run.rglob("*.tmp"))


def test_fit(forks: Forks, training: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    end_often(forks, ["fit", *training, "--out", str(run)], moment=after_batches(tmp_path, 4))
    whole(run)


def test_crossval(forks: Forks, training: list[str], tmp_path: Path) -> None:
    out = tmp_path / "cv"
    words = ["crossval", *training, "--out", str(out)]
    end_often(forks, words, moment=after_batches(tmp_path, 12), signals=SIGNALS[:5])
    for fold in ("fold0", "fold1"):
        whole(out / "seed0" / fold)
    results = json.loads((out / "results.json").read_text())
    assert results["n"] == 4 * 8 * 2 and not any("UNFINISHED" in n for n in results["notes"])


def test_export(forks: Forks, tmp_path: Path) -> None:
    from avser.export.runtime import OnnxClassifier

    model, folder = tiny_bundle(tmp_path / "tiny"), tmp_path / "out"
    target = folder / "model.onnx"
    words = ["export", "--model", str(model), "--out", str(target), "--quick"]

    def files() -> set[Path]:
        return set(folder.iterdir()) if folder.exists() else set()

    def printed() -> int:
        return forks.log.stat().st_size if forks.log.exists() else 0

    def moment(chance: random.Random) -> Callable[[], bool]:
        begun, before = printed(), files()
        if chance.random() < 0.5:  # as soon as a file is begun, or a line is printed
            return lambda: bool(files() - before)
        return lambda: printed() > begun

    end_often(forks, words, moment=moment, anew=True)
    # a hidden temporary file outlives kill -9; what has a name is whole
    assert [p for p in files() if not p.name.startswith(".")] == [target]
    prediction = OnnxClassifier(target)(voice("happy", seconds=1.0))
    assert prediction.label in bundle.load(model).net.emotions
