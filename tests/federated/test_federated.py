"""Federated training inside one process: the same apps that a network runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import make_server_of, simulation, tiny_data

from avser.bundle import serialization as bundle
from avser.errors import ConfigError
from avser.federated.server.run_store import RunStore, StoredRound
from avser.federated.settings import FederatedSettings
from avser.federated.simulation.compare import compare, report
from avser.federated.weights import (
    arrays_of,
    digest_of,
    names_of,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_data(tmp_path_factory.mktemp("corpus") / "ravdess")


@pytest.fixture(autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module's corpus is decoded once."""
    monkeypatch.setenv("AVSER_CACHE", str(tmp_path_factory.getbasetemp() / "federated-cache"))


# -- a run ---------------------------------------------------------------------------------------


def test_clients_train_together_and_the_report_compares(data: Any, tmp_path: Path) -> None:
    sim = simulation(tmp_path, data=data, holdout_share=0.25, evaluate_every=1)
    assert [c.name for c in sim.clients] == sorted({c.speaker for c in sim.trained_on()})
    unseen = {c.speaker for c in data.parts.test}
    assert not unseen & {c.speaker for c in sim.trained_on()} and len(sim.clients) == 4
    start = arrays_of(sim.net, names_of(sim.net, ["audio"]))
    kept = sim.run("inprocess")
    assert kept.update == 2 and digest_of(kept.model) != digest_of(start)
    rows = sim.store.rows()
    assert [r["update"] for r in rows] == [0, 1, 2]
    size = sum(a.nbytes for a in start.values())
    assert size < rows[1]["bytes_up"] / 4 < 2 * size + 20_000 and rows[1]["accepted"] == 4
    assert 0 <= rows[2]["uar"] <= 1  # measured on the unseen speaker
    compared = compare(sim, kinds=["central", "local"])
    assert compared["local"].keys() == {c.name for c in sim.clients}
    summary = report(sim, kept, compared, name="tiny", config_text="", commit=None)
    assert summary["n"] == len(data.parts.test) and not summary["marks"]
    text = " ".join(summary["notes"])
    assert "fedavg over 4 clients" in text and "trained centrally" in text and "alone" in text
    loaded = bundle.load(tmp_path / "run")
    assert set(loaded.provenance.speakers) == {c.name for c in sim.clients}
    assert digest_of(arrays_of(loaded.net, kept.average)) == digest_of(kept.average)
    assert (tmp_path / "run" / "report.html").read_text().count("fedavg over 4 clients") == 1
    assert compare(sim, kinds=["central"])["central"] == compared["central"]  # from the file


def test_a_run_goes_on_after_its_last_whole_round(data: Any, tmp_path: Path) -> None:
    whole = simulation(tmp_path, data=data, folder="whole", rounds=3, strategy="fedadam")
    expected = whole.run("inprocess").model
    first = simulation(tmp_path, data=data, folder="cut", rounds=3, strategy="fedadam")
    server = make_server_of(first)
    server.registry.refresh()
    server.round(1)
    half = tmp_path / "cut" / "rounds" / "00002.safetensors"
    half.write_bytes(b"half a round")  # killed while it was written
    again = simulation(tmp_path, data=data, folder="cut", rounds=3, strategy="fedadam")
    assert digest_of(again.run("inprocess").model) == digest_of(expected)


def test_a_damaged_round_is_passed_over(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    model = {"audio.w": np.ones(3, dtype=np.float32)}
    for number in (0, 1):
        store.save(StoredRound(update=number, model=model, average=model))
    (tmp_path / "rounds" / "00001.safetensors").write_bytes(b"damaged")
    latest = store.latest()
    assert latest is not None and latest.update == 0
    store.log_event("refused", reason="x")
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"what": "acce')  # killed here
    assert [line["event"] for line in store.events()] == ["refused"]


def test_local_training_is_the_same_again_and_needs_no_trainer(data: Any, tmp_path: Path) -> None:
    sims = [simulation(tmp_path, data=data, folder=f) for f in ("a", "b")]
    digests = {digest_of(s.run("inprocess").model) for s in sims}
    assert len(digests) == 1
    other = simulation(tmp_path, data=data, folder="c", seed=1).run("inprocess")
    assert digest_of(other.model) not in digests


def test_training_lowers_the_loss(data: Any, tmp_path: Path) -> None:
    sim = simulation(tmp_path, data=data, rounds=12, local_epochs=2)
    sim.run("inprocess")
    losses = [row["loss"] for row in sim.store.rows()[1:]]
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.03


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "fedavgg"}, "did you mean 'fedavg'"),
        ({"strategy": "buffered:0"}, "buffered:N"),
        ({"partition": "dirichlet:-1"}, "dirichlet:A"),
        ({"dp": "noise:1"}, "noise:Z,clip:C"),
        ({"fraction": 1.5}, "fraction 1.5"),
        ({"clients": "1"}, "2 and more"),
        ({"attack": "bribe:1"}, "label_flip:N"),
        ({"strategy": "krum", "secure_aggregation": True}, "--strategy krum"),
        ({"strategy": "trimmed_mean", "secure_aggregation": True}, "--strategy trimmed_mean"),
        ({"strategy": "buffered:2", "secure_aggregation": True}, "masks cancel"),
        ({"norm_limit": 3.0, "secure_aggregation": True}, "--norm-limit"),
        ({"keep_updates": True, "secure_aggregation": True}, "--keep-updates"),
        ({"audio_only": 1, "secure_aggregation": True}, "of one length"),
        ({"strategy": "krum", "dp": "noise:1,clip:1"}, "--dp and --strategy krum"),
    ],
)
def test_bad_settings_and_impossible_pairs_are_one_sentence(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=r"^Bad [^\n]+[.?]$") as result:
        FederatedSettings(**settings)
    assert message in str(result.value)


def test_the_learning_rate_rises_and_falls() -> None:
    s = FederatedSettings(rounds=20, warm_up=0.2)
    scales = [s.lr_scale(i) for i in range(1, 21)]
    assert scales[3] == 1.0 and scales[0] == 0.25 and 0 < scales[-1] < 0.05
    assert scales[3:] == sorted(scales[3:], reverse=True)
