"""Flower's simulation engine, and a deployment of real processes on this machine."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from federations import tiny_model

from avser.bundle import serialization as bundle
from avser.federated.client.remote import Federation, ServerError
from avser.federated.deployment import keys
from avser.federated.server.run_store import RunStore
from avser.testing.corpora.manifest import fake_manifest
from avser.testing.corpora.ravdess import fake_ravdess

pytestmark = pytest.mark.long

WAIT_S = 900.0  # everything starts Python anew, and loads torch; machines may be busy


BY_ENGINE = """
import sys
from pathlib import Path
from federations import simulation, tiny_data
from avser.federated.weights import digest_of
root, engine = Path(sys.argv[1]), sys.argv[2]
done = simulation(root, data=tiny_data(root / "ravdess"), folder=engine, rounds=2).run(engine)
print(done.update, digest_of(done.model))
"""


def test_flowers_own_engine_gives_equal_weights(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    recorded = []
    for engine in ("inprocess", "flower"):  # a process each: Ray leaves some of its own behind
        done = subprocess.run(
            [sys.executable, "-c", BY_ENGINE, str(tmp_path), engine],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        recorded.append(done.stdout.strip().splitlines()[-1])
    assert recorded[0] == recorded[1]
    assert recorded[0].startswith("2 ")


# -- deployment ----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Field:
    """Server and clients as processes of their own."""

    def __init__(self, root: Path) -> None:
        self.root, self.processes = root, {}
        self.port, self.http = free_port(), free_port()
        self.log = root / "log.txt"
        fake_ravdess(root / "ravdess", speakers=5)
        (root / "model.yaml").write_text(yaml.safe_dump({"model": tiny_model()}))
        corpus = {
            "class_path": "avser.datamodules.corpora.ravdess.Ravdess",
            "init_args": {"root": str(root / "ravdess")},
        }
        split = {"class_path": "avser.data.splits.SpeakerKFold", "init_args": {"folds": 5}}
        emotions = ["neutral", "happy", "sad", "angry"]
        data = {"corpus": corpus, "split": split, "emotions": emotions}
        (root / "test.yaml").write_text(yaml.safe_dump({"data": data}))
        keys.make_server_keys(root / "keys", hosts=[])
        keys.make_server_keys(root / "others", hosts=[])  # another federation's authority

    def start(self, name: str, *words: str) -> None:
        environment = {**os.environ, "AVSER_CACHE": str(self.root / "cache")}
        with self.log.open("ab") as log:
            log.write(f"--- {name} starts\n".encode())
            log.flush()
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "avser", "federate", *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def serve(self) -> None:
        self.start(
            "server",
            *("server", "--out", str(self.root / "run"), "--keys", str(self.root / "keys")),
            *("--data", str(self.root / "test.yaml"), "-c", str(self.root / "model.yaml")),
            *("--port", str(self.port), "--http-port", str(self.http), "--rounds", "1000"),
            "--show-names",
            "--federated.deadline_s=60",  # what a message that got lost costs
            "--federated.quorum=0.5",
            "--federated.min_clients=4",
            "--federated.evaluate_every=1",
            "--federated.local_epochs=1",
        )

    def admit(self, name: str) -> None:
        source = self.root / "clients" / name / f"{name}.pub"
        (self.root / "keys" / "clients" / f"{name}.pub").write_bytes(source.read_bytes())

    def join(self, name: str, *, admitted: bool = True, authority: str = "keys") -> None:
        folder = self.root / "clients" / name
        fake_manifest(folder, speakers=[name])
        if not (folder / f"{name}.key").exists():
            keys.make_client_keys(folder, name=name)
        if admitted:
            self.admit(name)
        self.start(
            name,
            *("client", "--server", f"127.0.0.1:{self.port}", "--data", str(folder)),
            *("--ca", str(self.root / authority / "ca.pem"), "--key", str(folder / f"{name}.key")),
            *("--home", str(self.root / "home" / name)),
        )

    def kill(self, name: str) -> None:
        """End a process and all that it started, as a power cut does."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def ended(self, name: str) -> bool:
        return self.processes[name].poll() is not None

    @cached_property
    def federation(self) -> Federation:
        url = f"https://127.0.0.1:{self.http}"
        return Federation(url, ca=self.root / "keys" / "ca.pem")

    def status(self) -> dict[str, Any]:
        try:
            return self.federation.status()
        except ServerError:
            return {"round": -1, "clients": [], "refusals": []}

    def until(self, what: str, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            if is_so():
                return
            time.sleep(1)
        pytest.fail(f"never {what}; the log ends:\n{self.log.read_text()[-3000:]}")

    def note(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(f"--- {text}\n")

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        self.federation.close()


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    result = Field(tmp_path)
    yield result
    result.close()


def test_a_federation_of_real_processes(field: Field) -> None:
    field.serve()
    names = ["anna", "ben", "cleo", "dan"]
    for name in names:
        field.join(name)

    def round_is(least: int) -> Callable[[], bool]:
        return lambda: field.status()["round"] >= least

    field.until("a first round of four clients", round_is(1))
    assert sorted(c["client"] for c in field.status()["clients"]) == names

    field.join("eve", admitted=False)  # nobody registered her key
    field.until("eve refused", lambda: field.ended("eve"))
    field.join("mallory", authority="others")  # trusts another authority: not our server
    before = field.status()["round"]
    field.kill("dan")  # in the middle of a round
    field.note("dan killed")
    field.until("rounds without dan", round_is(before + 2))
    assert {c["client"] for c in field.status()["clients"]} == set(names)  # nobody else came

    kept = field.status()["round"]
    field.kill("server")
    field.note("server killed")
    with pytest.raises(ServerError):
        field.federation.status()
    field.serve()
    field.until("back after kill -9", round_is(kept))
    stopped = field.processes.pop("server")
    stopped.terminate()
    assert stopped.wait(WAIT_S) == 0
    store = RunStore(field.root / "run")
    last = [store.load(int(row["update"])) for row in store.rows()][-1]  # each one complete
    field.serve()
    field.until("back after SIGTERM", round_is(last.update))
    field.join("finn")  # clients may join later, and make up for dan
    field.until("rounds after the restart", round_is(last.update + 2))
    assert "finn" in {c["client"] for c in field.status()["clients"]}
    rows = [json.loads(p.read_text()) for p in (field.root / "run" / "rounds").glob("*.json")]
    assert sorted(r["update"] for r in rows) == list(range(len(rows)))  # none twice, none lost
    assert len(list((field.root / "run" / "rounds").glob("*.safetensors"))) == len(rows)

    loaded = field.federation.model(field.root / "latest")
    assert loaded.net.emotions == ("neutral", "happy", "sad", "angry")
    assert bundle.load(field.root / "latest").name == loaded.name
    assert field.federation.test("test")["n"] > 0
    clip = next((field.root / "clients" / "anna" / "sound" / "anna").glob("*.flac"))
    assert field.federation.predict(clip)["label"] in loaded.net.emotions
    sent = (field.root / "clients" / "anna" / "sent.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["bytes"] for line in sent) > 0
    print(field.log.read_text())


def test_orders_from_outside_are_refused_and_plain_http_too(field: Field) -> None:
    field.serve()
    field.until("the server is there", lambda: field.status()["round"] >= 0)
    context = ssl.create_default_context(cafile=str(field.root / "keys" / "ca.pem"))
    with urllib.request.urlopen(
        f"https://127.0.0.1:{field.http}/", context=context, timeout=30
    ) as page:
        assert b"Federation" in page.read()
    with pytest.raises(OSError, match=r".*"):
        urllib.request.urlopen(f"http://127.0.0.1:{field.port}/v1/fleet/x", timeout=10)
    other = ssl.create_default_context(cafile=str(field.root / "others" / "ca.pem"))
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"https://127.0.0.1:{field.port}/", context=other, timeout=10)
