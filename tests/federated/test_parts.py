"""Parts of a federation: strategies, partitions, settings, what travels, privacy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import make_server_of, simulation, tiny_data, tiny_model, tiny_plan, tiny_settings

from avser.bundle import serialization as bundle
from avser.errors import BundleError, ConfigError
from avser.federated.client.learner import LocalTrainer
from avser.federated.plan import Plan, build_task
from avser.federated.server.aggregation import clipped_sum, mean_of, noisy_mean
from avser.federated.server.app import Server
from avser.federated.server.buffered import BufferedServer, discount, mixed
from avser.federated.server.update_checks import ClientUpdate, TrainingOffer
from avser.federated.simulation.partition import make_clients
from avser.federated.weights import (
    arrays_of,
    branch_of,
    constants_of,
    difference,
    digest_of,
    has_batch_norm,
    load_constants,
    names_of,
    norm_of,
    refresh_statistics,
)
from avser.testing.nets import tiny_net


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_data(tmp_path_factory.mktemp("corpus") / "ravdess")


@pytest.fixture(autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module's corpus is decoded once."""
    monkeypatch.setenv("AVSER_CACHE", str(tmp_path_factory.getbasetemp() / "federated-cache"))


def update(
    values: list[float], *, client: str = "a", examples: int = 1, at: int = 0
) -> ClientUpdate:
    base = {"audio.w": np.zeros(len(values), dtype=np.float32)}
    offer = TrainingOffer(number=client, node=1, client=client, update=at, plan="", base=base)
    delta = {"audio.w": np.array(values, dtype=np.float32)}
    return ClientUpdate(offer=offer, delta=delta, examples=examples, loss=0.0, size=1)


# -- strategies ----------------------------------------------------------------------------------


def test_fedavg_weighs_by_clips_branch_by_branch() -> None:
    a, b = update([1.0, 0.0], client="a", examples=3), update([0.0, 1.0], client="b")
    rich = {**b.delta, "video.w": np.array([8.0], dtype=np.float32)}
    b = ClientUpdate(offer=b.offer, delta=rich, examples=1, loss=0.0, size=1)
    result = mean_of([a, b], tiny_settings())
    assert result["audio.w"].tolist() == [0.75, 0.25]
    assert result["video.w"].tolist() == [8.0]  # of the one client who has pictures


@pytest.mark.parametrize("strategy", ["trimmed_mean", "krum"])
def test_one_bad_client_in_five_is_withstood(strategy: str) -> None:
    good = [update([1.0 + 0.01 * i, 1.0], client=f"c{i}") for i in range(4)]
    bad = update([-1000.0, 1000.0], client="z", examples=10_000)
    result = mean_of([*good, bad], tiny_settings(strategy=strategy))["audio.w"]
    assert np.abs(result - 1).max() < 0.05
    ruined = mean_of([*good, bad], tiny_settings())["audio.w"]
    assert np.abs(ruined - 1).max() > 100


def test_krum_says_how_many_clients_it_needs() -> None:
    with pytest.raises(ConfigError, match="5 or more updates, there are 2"):
        mean_of([update([1.0]), update([2.0], client="b")], tiny_settings(strategy="krum"))


@pytest.mark.parametrize("strategy", ["fedprox", "fedadam", "trimmed_mean", "buffered:3"])
def test_every_strategy_moves_the_model(strategy: str, data: Any, tmp_path: Path) -> None:
    sim = simulation(tmp_path, data=data, strategy=strategy)
    kept = sim.run("inprocess")
    moved = norm_of(difference(kept.model, sim.store.load(0).model))
    assert kept.update == 2 and 0 < moved < 10


def test_fedprox_keeps_clients_near(data: Any) -> None:
    moved = []
    for weight in (0.0, 100.0):
        learner = LocalTrainer(tiny_plan())
        start = arrays_of(learner.net, names_of(learner.net, ["audio"]))
        clips = data.parts.train[:12]
        batches = list(data.loader(clips))
        learned = learner.train(
            lambda epoch, rows=batches: [dict(b) for b in rows],  # type: ignore[misc]
            labels=[0, 1, 2],
            branches=["audio"],
            epochs=8,
            seed=0,
            lr_scale=lambda share: 1.0,
            proximal=weight,
        )
        moved.append(norm_of(difference(learned.arrays, start)))
    assert moved[1] < 0.8 * moved[0]


def test_buffered_discounts_what_is_old() -> None:
    assert discount(0) == 1 and discount(3) == 0.5
    new, old = update([4.0], client="a", at=3), update([4.0], client="b", at=0)
    assert mixed([new], now=3)["audio.w"].tolist() == [4.0]
    assert mixed([new, old], now=3)["audio.w"].tolist() == [3.0]  # (4 + 4/2) / 2


def test_buffered_takes_replies_as_they_come(data: Any, tmp_path: Path) -> None:
    sim = simulation(tmp_path, data=data, strategy="buffered:3", rounds=3)
    server = make_server_of(sim)
    server.__class__ = BufferedServer
    server.run()
    rows = sim.store.rows()[1:]
    assert [r["accepted"] for r in rows] == [3, 3, 3]
    assert rows[0]["stale"] == 0 and rows[1]["stale"] >= 1  # the fourth client was still at it
    ages = [line["age"] for line in sim.store.events() if line["event"] == "accepted"]
    assert max(ages) == max(r["oldest"] for r in rows) >= 1


def test_a_fraction_asks_that_many_and_others_in_turn(data: Any, tmp_path: Path) -> None:
    server = make_server_of(simulation(tmp_path, data=data, fraction=0.5))
    server.registry.refresh()
    asked = [tuple(n.client for n in server.registry.sample(u)) for u in range(1, 9)]
    assert {len(names) for names in asked} == {2} and len(set(asked)) > 2


# -- partitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("partition", ["iid", "speaker", "dirichlet:0.3"])
@pytest.mark.parametrize("count", [3, 7])
def test_partitions_share_out_every_clip_once(data: Any, partition: str, count: int) -> None:
    clips = data.parts.train + data.parts.validation
    settings = tiny_settings(clients=str(count), partition=partition)
    clients = make_clients(clips, settings)
    shared = [c.clip_id for client in clients for c in client.train]
    assert len(clients) == count and sorted(shared) == sorted(c.clip_id for c in clips)
    if partition == "speaker":
        speakers = [{c.speaker for c in client.train} for client in clients]
        assert count > 4 or sum(map(len, speakers)) == 4  # nobody is at two clients
        assert count < 4 or {len(s) for s in speakers} == {1}


def test_a_balanced_partition_has_as_many_of_each_emotion(data: Any) -> None:
    clips = data.parts.train + data.parts.validation
    for client in make_clients(clips, tiny_settings(clients="3", partition="balanced")):
        emotions = [c.emotion for c in client.train]
        assert {emotions.count(e) for e in set(emotions)} == {2} and len(set(emotions)) == 3
    with pytest.raises(ConfigError, match="8 clips of"):
        make_clients(clips, tiny_settings(clients="9", partition="balanced"))


def test_a_small_alpha_gives_uneven_clients(data: Any) -> None:
    clips = data.parts.train + data.parts.validation

    def spread(partition: str) -> float:
        clients = make_clients(clips, tiny_settings(clients="4", partition=partition))
        counts = [[sum(c.emotion == e for c in k.train) for e in ("happy", "sad")] for k in clients]
        return float(np.std(counts))

    assert spread("dirichlet:0.1") > spread("dirichlet:100")


# -- what travels --------------------------------------------------------------------------------


def test_a_plan_travels_as_plain_text_and_executes_nothing() -> None:
    plan = tiny_plan()
    again = Plan.from_json(plan.to_json())
    assert again.digest == plan.digest and again == plan
    first, second = build_task(plan).net, build_task(again).net
    assert digest_of(arrays_of(first, names_of(first, ["audio"]))) == digest_of(
        arrays_of(second, names_of(second, ["audio"]))
    )
    evil = json.loads(plan.to_json())
    evil["model"]["audio"]["class_path"] = "os.system"
    with pytest.raises(BundleError, match="expected one under avser"):
        build_task(Plan.from_json(json.dumps(evil)))
    with pytest.raises(ConfigError, match="Bad plan"):
        Plan.from_json("{}")


def test_branches_and_constants() -> None:
    net = tiny_net(features=4)
    names = [n for n, _ in net.named_parameters()]
    assert {branch_of(n) for n in names} == {"audio", "video", "fused"}
    both = set(names_of(net, ["audio"])) | set(names_of(net, ["video", "fused"]))
    assert both == set(names)
    audio = net.audio
    assert audio is not None
    audio.normaliser.mean.fill_(3.0)
    other = tiny_net(features=4)
    load_constants(other, constants_of(net))
    assert other.audio is not None and float(other.audio.normaliser.mean.mean()) == 3.0
    with pytest.raises(ConfigError, match="damaged"):
        load_constants(other, b"\xff" * 20)


def test_batch_norm_is_refused_or_stays_local(data: Any, tmp_path: Path) -> None:
    plan = tiny_plan(model=tiny_model(norm="batch"))
    with pytest.raises(ConfigError, match=r"norm: group"):
        simulation(tmp_path, data=data, plan=plan)
    sim = simulation(tmp_path, data=data, plan=plan, batch_norm="local")
    assert has_batch_norm(sim.net)
    server = make_server_of(sim)
    server.registry.refresh()
    server.round(1)
    assert not any("running" in name for name in server.current.model)  # they are not sent
    contexts = server.grid._contexts.values()  # type: ignore[attr-defined]
    own = {bytes(c.state.config_records["avser"]["statistics"]) for c in contexts}
    assert len(own) == len(sim.clients)  # each has its own
    layer = next(m for m in sim.net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    refresh_statistics(sim.net, data.loader(sim.own))
    assert layer.running_mean is not None and float(layer.running_mean.abs().max()) > 0
    assert {c.speaker for c in sim.own} & {c.name for c in sim.clients} == set()


def test_a_base_that_has_seen_test_speakers_is_refused(data: Any, tmp_path: Path) -> None:
    test = data.parts.test[0].speaker
    plan = tiny_plan()
    for name, speaker in (("seen", test), ("clean", "somebody")):
        bundle.save(
            build_task(plan).net,
            tmp_path / name,
            spec=plan.spec,
            name=name,
            provenance=bundle.Provenance(speakers=[speaker]),
        )
    with pytest.raises(ConfigError, match="trained on"):
        simulation(tmp_path, data=data, base=str(tmp_path / "seen"))
    sim = simulation(tmp_path, data=data, base=str(tmp_path / "clean"))
    assert sim.before.speakers == ["somebody"]
    with pytest.raises(ConfigError, match="its classes are"):
        simulation(
            tmp_path,
            data=data,
            base=str(tmp_path / "clean"),
            plan=tiny_plan(emotions=("happy", "sad", "calm")),
        )


# -- mixed clients, privacy ----------------------------------------------------------------------


def test_clients_without_picture_train_the_voice_alone(tmp_path: Path) -> None:
    from avser.data.splits import SpeakerKFold
    from avser.datamodules.clips import ClipDataModule
    from avser.datamodules.corpora.ravdess import Ravdess
    from avser.testing.corpora.ravdess import fake_ravdess

    root = fake_ravdess(tmp_path / "ravdess", speakers=5)
    corpus, emotions = Ravdess(root, features="auto"), ["happy", "sad", "angry"]
    data = ClipDataModule(corpus, SpeakerKFold(folds=5), emotions=emotions, video="features")
    path = "avser.models.encoders.features.FeatureVideoEncoder"
    model = {
        **tiny_model(),
        "video": {"class_path": path, "init_args": {"features": 35, "dim": 6, "normalise": "none"}},
        "fusion": {"class_path": "avser.models.fusion.concat.ConcatFusion", "init_args": {}},
    }
    sim = simulation(tmp_path, data=data, plan=tiny_plan(model=model), audio_only=2, rounds=1)
    server = make_server_of(sim)
    server.registry.refresh()
    kinds = sorted((n.client, n.branches) for n in server.registry.nodes.values())
    assert [b for _, b in kinds] == [("audio", "video", "fused")] * 2 + [("audio",)] * 2
    made = {
        n.client: server.offer(n, 1, server.current.model) for n in server.registry.nodes.values()
    }
    poor = made[kinds[-1][0]][1].content.array_records["arrays"]
    assert all(branch_of(name) == "audio" for name in poor)
    before = server.current.model
    server.round(1)
    moved = difference(server.current.model, before)
    for branch in ("audio", "video", "fused"):
        assert norm_of({n: a for n, a in moved.items() if branch_of(n) == branch}) > 0


def test_noise_is_that_of_the_clip_and_the_expected_number() -> None:
    updates = [update([30.0, 40.0], client=str(i)) for i in range(4)]
    shape = {"audio.w": np.zeros(2, dtype=np.float32)}
    still = noisy_mean(clipped_sum(updates, shape, clip=5.0), noise=0, clip=5.0, expected=8)
    assert still["audio.w"].tolist() == [1.5, 2.0]  # four of norm 5, by 8
    wide = {"audio.w": np.zeros(20_000, dtype=np.float32)}
    released = noisy_mean(wide, noise=2.0, clip=5.0, expected=8)["audio.w"]
    assert float(released.std()) == pytest.approx(2 * 5 / 8, rel=0.05)


def test_private_clients_clip_and_are_sampled_each_by_itself(data: Any, tmp_path: Path) -> None:
    sim = simulation(tmp_path, data=data, dp="noise:0,clip:0.01", fraction=0.7, rounds=1)
    server = make_server_of(sim)
    server.registry.refresh()
    assert {len(server.registry.sample(u)) for u in range(20)} > {1, 2}
    server.round(1)
    norms = [line["norm"] for line in sim.store.events() if line["event"] == "accepted"]
    assert norms and max(norms) <= 0.0101


def test_secure_aggregation_gives_the_mean_and_hides_the_updates(data: Any, tmp_path: Path) -> None:
    from avser.federated.privacy.secure_aggregation import SecureRound, secure_mods

    plain = simulation(tmp_path, data=data, folder="plain", rounds=1)
    open_server = make_server_of(plain)
    open_server.registry.refresh()
    open_server.round(1)
    sim = simulation(tmp_path, data=data, folder="secret", rounds=1, secure_aggregation=True)
    server = make_server_of(sim, mods=secure_mods())
    server.session.secure = SecureRound()
    seen: list[Any] = []
    original = server.grid.send_and_receive

    def watched(messages: Any, *, timeout: float | None = None) -> Any:
        result = list(original(messages, timeout=timeout))
        seen.extend(m.content for m in result)
        return result

    server.grid.send_and_receive = watched  # type: ignore[method-assign]
    server.registry.refresh()
    server.round(1)
    sizes = [sum(a.count_bytes() for a in c.array_records.values()) for c in seen]
    assert max(sizes) == 0  # no weights in the clear, only masked vectors
    gap = norm_of(difference(server.current.model, open_server.current.model))
    step = norm_of(difference(open_server.current.model, open_server.session.store.load(0).model))
    assert gap < 0.01 * step  # rounding, no more
    assert isinstance(server, Server)
