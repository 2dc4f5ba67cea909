"""Sensitivity of the private sum, sampling that epsilon accounts for, and bounded weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import tiny_plan, tiny_settings
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avser.errors import ConfigError
from avser.federated.client.app import to_record
from avser.federated.plan import build_task
from avser.federated.privacy.accounting import Accountant
from avser.federated.privacy.secure_aggregation import SecureRound
from avser.federated.server.aggregation import clipped_sum, mean_of, sum_of_mean
from avser.federated.server.app import Server
from avser.federated.server.buffered import mixed
from avser.federated.server.registry import Node
from avser.federated.server.run_store import RunStore, StoredRound
from avser.federated.server.update_checks import ClientUpdate, TrainingOffer, UpdateChecks
from avser.federated.session import Session
from avser.federated.settings import FederatedSettings
from avser.federated.simulation.grid import InProcessGrid
from avser.federated.weights import Arrays, difference, norm_of

CLIP = 1.0
BASE: Arrays = {"audio.w": np.zeros(3, dtype=np.float32)}
PLAN = tiny_plan()


def make_offer(client: str, *, update: int = 1) -> TrainingOffer:
    number = f"{client}-{update}"
    node = int(client) + 1
    return TrainingOffer(
        number=number, node=node, client=client, update=update, plan="p", base=BASE
    )


def make_update(values: Sequence[float], *, client: str, examples: int = 1) -> ClientUpdate:
    delta = {"audio.w": np.array(values, dtype=np.float32)}
    offer = make_offer(client)
    return ClientUpdate(offer=offer, delta=delta, examples=examples, loss=0.0, size=1)


def make_reply(offer: TrainingOffer, values: Sequence[float], examples: int) -> Message:
    asked = Message(RecordDict(), offer.node, "train")
    content = RecordDict(
        {
            "arrays": to_record({"audio.w": np.array(values, dtype=np.float32)}),
            "metrics": MetricRecord({"num-examples": examples}),
            "receipt": ConfigRecord({"offer": offer.number, "plan": offer.plan}),
        }
    )
    return Message(content, reply_to=asked)


def make_server(folder: Path, *, clients: int = 6, **more: Any) -> Server:
    """A server over clients without data, whose model is three numbers."""
    chosen = tiny_settings(**more)
    session = Session(
        settings=chosen,
        plan=PLAN,
        net=build_task(PLAN).net,
        constants=b"",
        store=RunStore(folder, last=1),
        secure=SecureRound() if chosen.secure_aggregation else None,
    )
    grid = InProcessGrid(ClientApp(), nodes=clients)
    server = Server(session, grid, grid.server_context())
    server.current = StoredRound(update=0, model=BASE, average=BASE)
    names = [str(i) for i in range(clients)]
    server.registry.nodes = {
        i + 1: Node(node=i + 1, client=n, branches=("audio",), examples=1)
        for i, n in enumerate(names)
    }
    return server


finite = st.floats(-1e4, 1e4, width=32)
vectors = st.lists(finite, min_size=3, max_size=3)
claims = st.integers(1, 20_000)
#: What each client sends in two rounds: its update and its claimed number of clips.
histories = st.lists(
    st.lists(st.tuples(vectors, claims), min_size=2, max_size=2), min_size=1, max_size=6
)


def private_step(server: Server, sent: dict[str, list[tuple[list[float], int]]]) -> Arrays:
    """The server's private sum of the second round, after the same clients' first one."""
    server.checks = UpdateChecks(
        limit=server.session.settings.limit, max_examples=10_000, independent=True
    )
    step: Arrays = {}
    for number in (0, 1):
        passed = []
        for client, rounds in sent.items():
            offer = make_offer(client, update=number)
            update = server.check(make_reply(offer, *rounds[number]), offer)
            passed += [update] if update is not None else []
        step = clipped_sum(server.select(passed), BASE, clip=CLIP)
    return step


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories, data=st.data())
def test_one_client_moves_the_private_sum_by_at_most_the_clip(
    history: list[list[tuple[list[float], int]]], data: st.DataObject, tmp_path: Path
) -> None:
    server = make_server(tmp_path, dp=f"noise:0,clip:{CLIP:g}")
    everyone = {str(i): rounds for i, rounds in enumerate(history)}
    for one in everyone:  # others may send the very same updates
        if data.draw(st.booleans()):
            everyone[one] = everyone["0"]
    gone = data.draw(st.sampled_from(sorted(everyone)))
    others = {name: rounds for name, rounds in everyone.items() if name != gone}
    with_it, without_it = private_step(server, everyone), private_step(server, others)
    assert norm_of(difference(with_it, without_it)) <= CLIP * (1 + 1e-4)


@settings(max_examples=500, deadline=None)
@given(
    updates=st.lists(vectors, min_size=1, max_size=7),
    place=st.integers(0, 6),
)
def test_one_client_moves_the_secure_sum_by_at_most_the_clip(
    updates: list[list[float]], place: int
) -> None:
    def secure_sum(rows: list[list[float]]) -> Arrays:
        if not rows:
            return BASE
        clipped = [clipped_sum([make_update(r, client="0")], BASE, clip=CLIP) for r in rows]
        mean = {"audio.w": np.mean([c["audio.w"] for c in clipped], axis=0, dtype=np.float32)}
        return sum_of_mean(mean, len(rows), clip=CLIP)

    place %= len(updates)
    others = updates[:place] + updates[place + 1 :]
    gap = norm_of(difference(secure_sum(updates), secure_sum(others)))
    assert gap <= CLIP * (1 + 1e-4)
    if len(updates) == 1:
        assert gap == 0  # a single update is never visible


def test_a_check_that_compares_clients_is_refused_under_privacy() -> None:
    assert FederatedSettings(dp="noise:1,clip:1").limit is None
    with pytest.raises(ConfigError, match="--dp and --norm-limit"):
        FederatedSettings(dp="noise:1,clip:1", norm_limit=4)
    with pytest.raises(ConfigError, match="Bad norm limit 4"):
        UpdateChecks(limit=4.0, max_examples=1, independent=True)


# -- sampling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True])
def test_epsilon_is_that_of_the_sampling_that_happened(
    secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate, rounds, clients = 0.1, 400, 6
    server = make_server(
        tmp_path,
        clients=clients,
        rounds=rounds,
        dp="noise:1,clip:1",
        fraction=rate,
        secure_aggregation=secure,
        deadline_s=0.01,
    )
    drawn: list[list[str]] = []
    sample = server.registry.sample

    def counted(update: int) -> list[Node]:
        nodes = sample(update)
        drawn.append([n.client for n in nodes])
        return nodes

    class Mean:
        mean, count = [np.array([0.1, 0.0, 0.0])], 2

    monkeypatch.setattr(server.registry, "sample", counted)
    monkeypatch.setattr(server.registry, "refresh", lambda: None)
    monkeypatch.setattr(server, "replies", lambda *_, **__: iter(()))
    monkeypatch.setattr(
        server,
        "offer",
        lambda node, *_: (make_offer(node.client), Message(RecordDict(), node.node, "train")),
    )
    monkeypatch.setattr(server, "request", lambda *_, **__: {})
    monkeypatch.setattr(SecureRound, "_ask", staticmethod(lambda *_: Mean()))
    monkeypatch.setattr(server.session.store, "save", lambda kept: None)
    with monkeypatch.context() as patch:  # the accountant's 0.3 s a round are needed once
        patch.setattr(Session, "accountant", None)
        patch.setattr(server.session, "stopped", lambda: server.current.update == rounds - 1)
        server.run()
    server.run()

    assert len(drawn) == rounds == server.current.update  # no round was drawn again
    assert min(map(len, drawn)) == 0  # nor one without clients left out
    happened = sum(map(len, drawn)) / (rounds * clients)
    assert happened == pytest.approx(rate, abs=3 * (rate * (1 - rate) / (rounds * clients)) ** 0.5)
    stated = float(server.current.row["epsilon"])
    assert stated == round(Accountant(noise=1, sampling=rate, delta=1e-5).epsilon(rounds), 4)
    actual = Accountant(noise=1, sampling=happened, delta=1e-5).epsilon(rounds)
    assert stated == pytest.approx(actual, rel=0.2)
    empty = [e for e in server.session.store.events() if e["event"] == "empty"]
    assert len(empty) == (sum(len(names) < 2 for names in drawn) if secure else 0)


def test_a_private_round_waits_for_all_however_fast_the_others_are(tmp_path: Path) -> None:
    server = make_server(tmp_path, clients=4, dp="noise:0,clip:1", quorum=0.25, deadline_s=30.0)
    quorums: list[int | None] = []

    def replies(offers: Any, *, quorum: int | None) -> Any:
        quorums.append(quorum)
        return iter(())

    server.replies = replies  # type: ignore[method-assign]
    server._plain([], 1)
    assert quorums == [None]


def test_sampling_and_noise_of_a_simulation_are_drawn_apart(tmp_path: Path) -> None:
    registry = make_server(tmp_path).registry
    assert registry.rng("sample", 1).random() != registry.rng("noise", 1).random()


# -- weights -------------------------------------------------------------------------------------


def checks(limit: float | None) -> UpdateChecks:
    return UpdateChecks(limit=None, max_examples=10_000, weight_limit=limit)


def test_one_liar_does_not_outweigh_twenty_honest_clients() -> None:
    honest = [make_update([0.0, 0.0, 0.0], client=str(i), examples=50) for i in range(20)]
    liar = make_update([1.0, 0.0, 0.0], client="20", examples=10_000)
    weighed, capped = checks(FederatedSettings().weight_limit).cap_weights([*honest, liar])
    assert mean_of(weighed, tiny_settings())["audio.w"][0] == pytest.approx(2 / 22)
    assert capped == {"20-1": "claims 10,000 clips, counted 100: 2 times the median 50"}


@pytest.mark.parametrize(
    ("limit", "share"), [(0, 1 / 2), (1, 1 / 2), (2, 2 / 3), (None, 100 / 101)]
)
def test_the_operator_bounds_weights(limit: float | None, share: float) -> None:
    pair = [
        make_update([0.0, 0.0, 0.0], client="0", examples=10),
        make_update([1.0, 0.0, 0.0], client="1", examples=1000),
    ]
    weighed, _ = checks(limit).cap_weights(pair)
    assert mean_of(weighed, tiny_settings())["audio.w"][0] == pytest.approx(share)


def test_many_contributions_of_one_client_do_not_move_the_median() -> None:
    honest = [make_update([0.0, 0.0, 0.0], client=str(i), examples=10) for i in range(3)]
    liar = [make_update([1.0, 0.0, 0.0], client="9", examples=10_000) for _ in range(4)]
    weighed, _ = checks(2.0).cap_weights([*honest, *liar])
    assert mixed(weighed, now=1)["audio.w"][0] == pytest.approx(80 / 110)


@pytest.mark.parametrize("limit", [0.5, -1.0])
def test_a_weight_below_the_median_is_no_limit(limit: float) -> None:
    with pytest.raises(ConfigError, match="Bad weight_limit"):
        FederatedSettings(weight_limit=limit)


# -- trimmed mean --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 4, 5, 7, 49, 100])
@pytest.mark.parametrize("trim", [0.0, 0.2, 0.49])
def test_the_trimmed_mean_leaves_out_one_at_either_end_at_least(count: int, trim: float) -> None:
    good = [make_update([1.0, 2.0, 3.0], client=str(i)) for i in range(count - 1)]
    bad = make_update([1e4, -1e4, 1e4], client="200")
    mean = mean_of([*good, bad], tiny_settings(strategy="trimmed_mean", trim=trim))["audio.w"]
    assert mean.tolist() == pytest.approx([1.0, 2.0, 3.0])


def test_the_trimmed_mean_of_two_is_refused() -> None:
    pair = [make_update([1.0, 0.0, 0.0], client=str(i)) for i in range(2)]
    with pytest.raises(ConfigError, match=r"Bad number of updates 2: .* needs 3 or more"):
        mean_of(pair, tiny_settings(strategy="trimmed_mean"))


def test_under_privacy_an_update_does_not_shut_out_its_twin(tmp_path: Path) -> None:
    server = make_server(tmp_path, dp=f"noise:0,clip:{CLIP:g}")
    same = ([1.0, 0.0, 0.0], 1)
    step = private_step(server, {"0": [same, ([0.0, 1.0, 0.0], 1)], "1": [([0.0] * 3, 1), same]})
    assert step["audio.w"].tolist() == [1.0, 1.0, 0.0]
    open_server = make_server(tmp_path / "open")
    first, second = (make_offer(name) for name in "01")
    assert open_server.check(make_reply(first, *same), first) is not None
    assert open_server.check(make_reply(second, *same), second) is None
