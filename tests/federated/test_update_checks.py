"""Each guard is sent the bad thing; the reason stands in the events and the round goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import make_server_of, simulation, tiny_data
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from avser.federated.client.app import make_client_app
from avser.federated.client.data import SimulatedClients
from avser.federated.server.app import Server
from avser.federated.simulation.grid import InProcessGrid
from avser.federated.weights import difference, norm_of

Spoil = Callable[[RecordDict], None]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_data(tmp_path_factory.mktemp("corpus") / "ravdess")


@pytest.fixture(autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSER_CACHE", str(tmp_path_factory.getbasetemp() / "checks-cache"))


def with_bad_client(data: Any, tmp_path: Path, spoil: Spoil, **settings: Any) -> Server:
    """A server whose first client spoils its replies to offers."""
    sim = simulation(tmp_path, data=data, **settings)
    inner = make_client_app(SimulatedClients(sim.data, sim.clients))
    app = ClientApp()

    @app.query()
    def hello(message: Message, context: Context) -> Message:
        return inner(message, context)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        reply = inner(message, context)
        if context.node_config["partition-id"] == 0:
            spoil(reply.content)
        return reply

    return make_server_of(sim, app=app)


def events(server: Server, what: str) -> list[dict[str, Any]]:
    return [line for line in server.session.store.events() if line["event"] == what]


def changed(change: Callable[[np.ndarray], Any]) -> Spoil:
    """Change the first array of a reply."""

    def spoil(content: RecordDict) -> None:
        record = content.array_records["arrays"]
        name = next(iter(record))
        record[name] = Array(np.asarray(change(record[name].numpy())))

    return spoil


def claimed(count: Any) -> Spoil:
    def spoil(content: RecordDict) -> None:
        content.metric_records["metrics"]["num-examples"] = count

    return spoil


def scaled(factor: float) -> Spoil:
    def spoil(content: RecordDict) -> None:
        record = content.array_records["arrays"]
        for name in list(record):
            record[name] = Array((record[name].numpy() * factor).astype(np.float32))

    return spoil


def receipt(key: str, value: str) -> Spoil:
    def spoil(content: RecordDict) -> None:
        content.config_records["receipt"][key] = value

    return spoil


def without(name: str) -> Spoil:
    def spoil(content: RecordDict) -> None:
        del content[name]

    return spoil


def oversized(content: RecordDict) -> None:
    content["ballast"] = ConfigRecord({"bytes": b"x" * 4_000_000})


def lying_shape(content: RecordDict) -> None:
    """The record says the right shape, the bytes hold another."""
    record = content.array_records["arrays"]
    name = next(iter(record))
    honest = record[name]
    other = Array(np.zeros(7, dtype=np.float32))
    record[name] = Array(
        dtype=honest.dtype, shape=tuple(honest.shape), stype=honest.stype, data=other.data
    )


def other_names(content: RecordDict) -> None:
    record = content.array_records["arrays"]
    content["arrays"] = ArrayRecord({f"x.{n}": a for n, a in record.items()})


def pickled(content: RecordDict) -> None:
    """Bytes that only an unsafe reader would take."""
    import io
    import pickle

    record = content.array_records["arrays"]
    name = next(iter(record))
    file = io.BytesIO()
    np.save(file, np.array([pickle], dtype=object).astype(str).astype(object), allow_pickle=True)
    honest = record[name]
    record[name] = Array(
        dtype=honest.dtype, shape=tuple(honest.shape), stype=honest.stype, data=file.getvalue()
    )


BAD: dict[str, tuple[Spoil, str]] = {
    "nan": (changed(lambda a: a * np.float32("nan")), "not finite"),
    "infinite": (changed(lambda a: a + np.float32("inf")), "not finite"),
    "shape": (changed(lambda a: a.reshape(-1)[:-1]), "wrong shape"),
    "dtype": (changed(lambda a: a.astype(np.float64)), "wrong dtype"),
    "lying": (lying_shape, "inside"),
    "pickle": (pickled, "malformed"),
    "names": (other_names, "not this model's"),
    "model hash": (receipt("plan", "0" * 16), "model hash"),
    "another offer": (receipt("offer", "0" * 32), "replayed"),
    "no clips": (claimed(0), "claims 0 clips"),
    "negative": (claimed(-5), "claims -5 clips"),
    "a float": (claimed(1e9), "claims 1000000000.0 clips"),
    "far outside": (scaled(300.0), "times the median"),
    "oversized": (oversized, "oversized"),
    "no arrays": (without("arrays"), "malformed"),
    "no receipt": (without("receipt"), "malformed"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_reply_is_refused_and_the_round_goes_on(kind: str, data: Any, tmp_path: Path) -> None:
    spoil, message = BAD[kind]
    server = with_bad_client(data, tmp_path, spoil)
    server.registry.refresh()
    before = server.current.model
    server.round(1)
    refused = events(server, "refused")
    assert len(refused) == 1 and message in refused[0]["reason"]
    assert refused[0]["round"] == 1 and refused[0]["client"] == "ravdess/01"
    assert len(events(server, "accepted")) == 3 and server.current.update == 1
    assert 0 < norm_of(difference(server.current.model, before)) < 10


def test_a_claim_of_a_thousand_million_clips_counts_as_the_most(data: Any, tmp_path: Path) -> None:
    server = with_bad_client(data, tmp_path, claimed(10**9), max_examples=6)
    server.registry.refresh()
    server.round(1)
    capped = events(server, "capped")
    assert len(capped) == 1 and "claims 1,000,000,000 clips, counted 6" in capped[0]["reason"]
    assert {line["examples"] for line in events(server, "accepted")} == {6}


def test_a_replayed_update_is_refused(data: Any, tmp_path: Path) -> None:
    kept: list[ArrayRecord] = []

    def replay(content: RecordDict) -> None:
        if kept:  # the first round's update again, on the second round's weights
            content["arrays"] = kept[0]
        else:
            kept.append(content.array_records["arrays"])

    server = with_bad_client(data, tmp_path, replay)
    server.registry.refresh()
    server.round(1)
    model = server.current.model
    server.current = type(server.current)(
        update=1, model=server.session.store.load(0).model, average=model
    )
    server.round(2)
    assert [line["reason"] for line in events(server, "refused")] == [
        "replayed: an identical update was accepted before"
    ]


def test_an_answer_to_nobodys_offer_is_refused(data: Any, tmp_path: Path) -> None:
    server = with_bad_client(data, tmp_path, lambda content: None)
    server.registry.refresh()
    node = next(iter(server.registry.nodes.values()))
    offer, message = server.offer(node, 1, server.current.model)
    server.grid.push_messages([message])
    (reply,) = server.grid.pull_messages([message.metadata.message_id])
    assert server.check(reply, None) is None  # its round is over
    stranger = type(offer)(**{**vars(offer), "node": offer.node + 1})
    assert server.check(reply, stranger) is None
    reasons = [line["reason"] for line in events(server, "refused")]
    assert "no open offer" in reasons[0] and "another node" in reasons[1]


def test_a_client_that_fails_or_is_silent_does_not_block_a_round(data: Any, tmp_path: Path) -> None:
    def fails(content: RecordDict) -> None:
        raise RuntimeError("no more disk")

    server = with_bad_client(data, tmp_path, fails, deadline_s=0.5)
    server.registry.refresh()
    pull = server.grid.pull_messages
    silent = server.registry.nodes[2].client
    waiting = server.grid._waiting  # type: ignore[attr-defined]

    def pulled(ids: Any) -> Any:
        return pull([i for i in ids if i in waiting and waiting[i].metadata.dst_node_id != 2])

    server.grid.pull_messages = pulled  # type: ignore[method-assign]
    server.round(1)
    assert server.current.update == 1 and server.current.row["accepted"] == 2
    assert "no more disk" in events(server, "refused")[0]["detail"]
    assert [line["client"] for line in events(server, "late")] == [silent]


def test_too_few_updates_leave_the_model_as_it_was(data: Any, tmp_path: Path) -> None:
    server = with_bad_client(data, tmp_path, without("arrays"), quorum=1.0)
    server.registry.refresh()
    before = server.current
    server.round(1)
    assert server.current is before
    assert events(server, "abandoned")[0]["reason"].startswith("3 of 4 updates were accepted")


def test_nodes_with_malformed_registrations_are_left_out(data: Any, tmp_path: Path) -> None:
    sim = simulation(tmp_path, data=data)
    inner = make_client_app(SimulatedClients(sim.data, sim.clients))
    app = ClientApp()

    @app.query()
    def hello(message: Message, context: Context) -> Message:
        partition = context.node_config["partition-id"]
        if partition == 0:
            raise ValueError("no data here")
        reply = inner(message, context)
        if partition == 1:
            reply.content = RecordDict({"metrics": MetricRecord({"x": 1})})
        return reply

    grid = InProcessGrid(app, nodes=len(sim.clients))
    server = Server(make_server_of(sim).session, grid, grid.server_context())
    server.registry.refresh()
    assert len(server.registry.nodes) == 2
    first, second = events(server, "refused")
    assert "no data here" in first["detail"] and second["reason"] == "malformed registration"
