"""The accountant, the audit of leakage, and a contributor's folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import simulation, tiny_data, tiny_plan, tiny_settings

from avser.cli import main
from avser.errors import ConfigError
from avser.federated.client.contributions import Contributions
from avser.federated.client.feature_store import (
    CombinedClientData,
    StoredFeatures,
    with_stored_features,
)
from avser.federated.client.learner import LocalTrainer
from avser.federated.privacy.accounting import Accountant
from avser.federated.privacy.leakage import audit_leakage
from avser.federated.server.run_store import RunStore, StoredRound
from avser.testing.media import voice


def test_epsilon_is_that_of_the_literature_and_grows() -> None:
    # one Gaussian release with noise 1: about 4.4 to 4.9 at delta 1e-5, by conversion
    once = Accountant(noise=1.0, sampling=1.0, delta=1e-5)
    assert 4.2 < once.epsilon(1) < 4.9
    # MNIST of Abadi et al. 2016: q = .01, sigma = 4, 10,000 steps: epsilon 1.26 at 1e-5
    assert Accountant(noise=4.0, sampling=0.01, delta=1e-5).epsilon(10_000) == pytest.approx(
        1.26, abs=0.35
    )
    sampled = Accountant(noise=1.0, sampling=0.1, delta=1e-5)
    values = [sampled.epsilon(n) for n in (0, 1, 10, 100)]
    assert values == sorted(values) and values[0] == 0 and values[3] < once.epsilon(100)
    assert Accountant(noise=0.0, sampling=1.0, delta=1e-5).epsilon(1) == float("inf")


def test_warnings_come_as_rounds_add_up_and_weak_is_called_weak() -> None:
    accountant = Accountant(noise=1.0, sampling=1.0, delta=1e-5)
    recorded = [accountant.warning(n) for n in range(1, 20)]
    assert "each further round adds" in recorded[0]
    weak = [t for t in recorded if "this is weak" in t]
    assert weak and "over 10" in weak[0] and len(weak) < 4  # not in every round
    assert "" in recorded
    assert "weak" in accountant.describe(20) and "unit one client" in accountant.describe(20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("corpus")
        patch.setenv("AVSER_CACHE", str(root / "cache"))
        result = tiny_data(root / "ravdess")
        result.prepare_data()
        yield result


def test_a_private_run_states_epsilon_in_every_row(data: Any, tmp_path: Path) -> None:
    sim = simulation(tmp_path, data=data, dp="noise:2,clip:0.1", rounds=2)
    sim.run("inprocess")
    rows = sim.store.rows()[1:]
    expected = Accountant(noise=2.0, sampling=1.0, delta=1e-5)
    assert [r["epsilon"] for r in rows] == [round(expected.epsilon(n), 4) for n in (1, 2)]
    assert "epsilon is" in rows[0]["warning"]


# -- leakage -------------------------------------------------------------------------------------


def kept_run(folder: Path, *, signal: float, rounds: int = 4, speakers: int = 12) -> Path:
    rng = np.random.default_rng(0)
    tell = rng.normal(size=40)
    store = RunStore(folder)
    clients: dict[str, Any] = {}
    for i in range(speakers):
        sex, name = ("female", "male")[i % 2], f"corpus/{i:02d}"
        clients[name] = {"sexes": [sex]}
        for number in range(1, rounds + 1):
            common = 30 * np.sin(np.arange(40) + number)  # what all learn is no secret
            own = rng.normal(size=40) + signal * tell * (1 if i % 2 else -1)
            store.save_update(number, name, {"w": np.asarray(common + own, dtype=np.float32)})
    (folder / "clients.json").write_text(json.dumps(clients))
    model = {"w": np.zeros(40, dtype=np.float32)}
    store.save(StoredRound(update=rounds, model=model, average=model))
    return folder


def test_the_attacker_finds_what_is_there_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_run = kept_run(tmp_path / "open", signal=1.0)
    result = audit_leakage(open_run)
    assert result.accuracy == 1 and result.by_update > 0.9 and result.speakers == 12
    nothing = audit_leakage(kept_run(tmp_path / "closed", signal=0.0))
    assert nothing.low < 0.5 < nothing.high and nothing.accuracy < 0.85
    words = ["federate", "audit-leakage", str(open_run), str(tmp_path / "closed")]
    assert main([*words, "--json", str(tmp_path / "rows.json")]) == 0
    shown = capsys.readouterr().out
    assert shown.count("chance .500") == 2 and "pairs of unseen speakers: 1.000" in shown
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [r["run"] for r in rows] == ["open", "closed"] and rows[0]["accuracy"] == 1


def test_an_audit_needs_updates_and_speakers_of_both_sexes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not of a simulation"):
        audit_leakage(tmp_path)
    (tmp_path / "clients.json").write_text(json.dumps({"a": {"sexes": ["male"]}}))
    with pytest.raises(ConfigError, match="both sexes"):
        audit_leakage(tmp_path)
    clients = {str(i): {"sexes": [("female", "male")[i % 2]]} for i in range(4)}
    (tmp_path / "clients.json").write_text(json.dumps(clients))
    with pytest.raises(ConfigError, match="--keep-updates"):
        audit_leakage(tmp_path)


def test_updates_of_a_run_are_kept_where_asked(data: Any, tmp_path: Path) -> None:
    sim = simulation(tmp_path, data=data, keep_updates=True, rounds=1)
    sim.run("inprocess")
    names = [client for _, client, _ in sim.store.updates()]
    assert names == [c.name for c in sim.clients]


# -- contributions -------------------------------------------------------------------------------


def spoken(emotion: str, *, seed: int = 0) -> np.ndarray:
    return np.asarray(voice(emotion, seconds=0.9, sample_rate=16_000, seed=seed), dtype=np.float32)


def test_features_train_as_their_sound_does_and_hold_none_of_it(tmp_path: Path) -> None:
    plan = tiny_plan(holdout_share=0.25)
    learner = LocalTrainer(plan)
    folder = Contributions(tmp_path)
    for i in range(8):
        for emotion in ("happy", "sad"):
            folder.submit(
                spoken(emotion, seed=i),
                prompted=emotion,
                predicted="happy",
                net=learner.net,
                model=dict(plan.model),
            )
    assert not list(tmp_path.rglob("*.wav")) and not (tmp_path / "manifest.csv").exists()
    client = StoredFeatures(tmp_path, name="me", plan=plan)
    assert len(client.labels) == 12  # of eight each, two are held back
    batch = next(iter(client.holdout()))
    with torch.inference_mode():
        transforms = with_stored_features(batch)
        from_features = learner.net.eval()(batch, transforms=transforms)["audio"].logits
    assert from_features.shape[1] == 3
    learned = learner.train(
        lambda epoch: client.batches(epoch, 0),
        labels=client.labels,
        branches=["audio"],
        epochs=6,
        seed=0,
        lr_scale=lambda share: 1.0,
    )
    assert learned.examples == 12 and np.isfinite(learned.loss)
    other = tiny_plan(model={**plan.model, "audio": {"class_path": "x", "init_args": {}}})
    assert StoredFeatures(tmp_path, name="me", plan=other).labels == []  # of another front end
    both = CombinedClientData(client, client)
    assert len(both.labels) == 24 and len(list(both.holdout())) == 2 * len(list(client.holdout()))


def test_features_give_the_answer_of_their_sound(tmp_path: Path) -> None:
    plan = tiny_plan(holdout_share=0.0)
    learner = LocalTrainer(plan)
    wave = spoken("angry")
    contributions = Contributions(tmp_path)
    contributions.submit(
        wave, prompted="angry", predicted="", net=learner.net, model=dict(plan.model)
    )
    (batch,) = StoredFeatures(tmp_path, name="me", plan=plan).batches(0, 0)
    sound, length = torch.from_numpy(wave)[None], torch.tensor([len(wave)])
    with torch.inference_mode():
        expected = learner.net.eval().audio_branch()(sound, length)[0]
        streams = learner.net(batch, transforms=with_stored_features(batch))
        result = learner.net.predict(streams).probabilities
    assert result[0].tolist() == pytest.approx(expected[0].tolist(), abs=2e-3)  # half precision


@pytest.mark.parametrize("keep", ["audio", "nothing"])
def test_a_contributor_chooses_what_is_kept_and_deletes_it(keep: Any, tmp_path: Path) -> None:
    plan = tiny_plan()
    contributions = Contributions(tmp_path, keep=keep, name="anna")
    assert contributions.prompt(plan.emotions) in plan.emotions
    for emotion in ("happy", "sad"):
        contributions.submit(
            spoken(emotion),
            prompted=emotion,
            predicted="sad",
            net=LocalTrainer(plan).net,
            model=dict(plan.model),
        )
    assert contributions.prompt(plan.emotions) == "angry"  # asked for least so far
    tally = contributions.tally()
    assert (tally["submitted"], tally["recognised"], tally["bytes_sent"]) == (2, 1, 0)
    assert (tmp_path / "manifest.csv").exists() == (keep == "audio")
    assert len(list(tmp_path.rglob("*.wav"))) == (2 if keep == "audio" else 0)
    if keep == "audio":
        from avser.datamodules.corpora.manifest import Manifest

        clips = Manifest(tmp_path).clips()
        assert [c.emotion for c in clips].count("sad") == 1 and all(c.path.exists() for c in clips)
    (tmp_path / "sent.jsonl").write_text('{"bytes": 1000}\n{"by')
    assert contributions.tally()["bytes_sent"] == 1000
    assert contributions.delete() == 2
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"sent.jsonl"} and contributions.tally()["submitted"] == 0
    with pytest.raises(ConfigError, match="Bad keep"):
        Contributions(tmp_path, keep="everything")  # type: ignore[arg-type]


def test_the_settings_of_tests_are_legal() -> None:
    assert tiny_settings().limit == 4.0 and tiny_settings(secure_aggregation=True).limit is None
