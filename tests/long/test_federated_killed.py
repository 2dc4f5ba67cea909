"""A federation's server that is ended at random moments of its rounds and releases."""

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from federations import tiny_model
from forking import Forks, ForkServer, folder_size
from one_process_federation import CLIENTS

from avser.bundle import serialization as bundle
from avser.federated.server.run_store import RunStore
from avser.federated.weights import digest_of
from avser.testing.corpora.manifest import fake_manifest
from avser.testing.corpora.ravdess import fake_ravdess

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
]

NAMES, ROUNDS = ("anna", "ben"), 24


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    made = ForkServer("one_process_federation")
    yield made
    made.close()


@pytest.fixture
def forks(server: ForkServer, tmp_path: Path) -> Forks:
    for name in NAMES:
        fake_manifest(tmp_path / "clients" / name, speakers=[name], per_emotion=1)
    own = {"AVSER_CACHE": str(tmp_path / "cache"), CLIENTS: str(tmp_path / "clients")}
    return Forks(server, log=tmp_path / "log.txt", environment=own)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Words of a server with a tiny model, without its folder."""
    fake_ravdess(tmp_path / "ravdess", speakers=5, per_emotion=1)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": tiny_model()}))
    command = ["federate", "server", "--insecure", "--until-done"]
    command += ["-c", "configs/data/ravdess.yaml", "--root", str(tmp_path / "ravdess")]
    command += ["-c", str(tmp_path / "model.yaml"), "--data.emotions=[happy,sad,angry]"]
    settings = {"rounds": ROUNDS, "local_epochs": 1, "min_clients": 2, "quorum": 1.0}
    return [*command, *(f"--federated.{name}={value}" for name, value in settings.items())]


def test_federated_server(forks: Forks, words: list[str], tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert forks.run([*words, "--out", str(whole)]) == 0, forks.said()
    expected = RunStore(whole).latest()
    assert expected is not None and expected.update == ROUNDS
    step = folder_size(whole) // ROUNDS

    chance, counts = random.Random(0), Counter[str]()
    words = [*words, "--out", str(run)]
    for number in [signal.SIGKILL, signal.SIGTERM] * 5:
        at = folder_size(run) + chance.uniform(0.0, 2.0) * step
        code = forks.run(words, until=lambda at=at: folder_size(run) > at, number=number)
        # a server that is up ends well, one that starts up is interrupted
        assert code in ((-9,) if number == signal.SIGKILL else (0, 143)), forks.said()
        assert not (run / "DONE").exists(), counts
        counts[number.name] += 1
    assert forks.run(words) == 0, forks.said()
    print(f"federate server: {dict(counts)}")

    text = forks.log.read_text()
    assert "Traceback" not in text
    assert text.count("stopped.") + text.count("interrupted.") == counts["SIGTERM"]
    store = RunStore(run)
    assert [row["update"] for row in store.rows()] == list(range(ROUNDS + 1))  # none twice or lost
    rounds = [store.load(update) for update in range(ROUNDS + 1)]  # each is whole
    assert digest_of(rounds[-1].model) == digest_of(expected.model)
    accepted = Counter(
        (e["client"], e["round"]) for e in store.events() if e["event"] == "accepted"
    )
    assert set(accepted) == {(name, n) for name in NAMES for n in range(1, ROUNDS + 1)}
    assert bundle.load(run / "bundle").provenance.epochs == ROUNDS
    assert str(ROUNDS) in json.loads((run / "measured.json").read_text())
    assert not list(run.glob(".bundle-*"))
