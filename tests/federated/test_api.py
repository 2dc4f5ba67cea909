"""HTTP API of a federation's server, and its client."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from federations import simulation, tiny_data, tiny_model, tiny_plan
from job_handlers import make_handler

from avser.bundle import serialization as bundle
from avser.errors import BundleError, ConfigError
from avser.federated.client.remote import Federation, ServerError
from avser.federated.deployment.apps import read_session, write_session
from avser.federated.plan import build_task
from avser.federated.server.api import create_federation_api, status_page
from avser.federated.server.mfcc import predict_mfcc
from avser.federated.server.releases import LatestRelease, pack, unpack
from avser.federated.server.worker import LatestReleaseHandler
from avser.federated.weights import arrays_of, constants_of, digest_of, names_of
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle
from avser.web.jobs import Classify, JobResult, Progress
from avser.web.limits import Limits
from avser.web.service import Service


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LatestRelease]:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("federation")
        patch.setenv("AVSER_CACHE", str(root / "cache"))
        sim = simulation(root, data=tiny_data(root / "ravdess"), rounds=1)
        sim.store.log_event(
            "refused", client="eve", round=1, reason="<b>malformed</b>", detail="at/home"
        )
        sim.run("inprocess")
        write_session(
            sim.folder, settings=sim.settings, plan=sim.plan, constants=constants_of(sim.net)
        )
        other = tiny_bundle(root / "other", ("happy", "sad", "angry"))
        result = LatestRelease(folder=sim.folder, tests={"test": sim.data}, arm=str(other))
        assert result.refresh() and not result.refresh()  # a round is released once
        yield result


@pytest.fixture(scope="module")
def federation(
    release: LatestRelease, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Federation]:
    limits = Limits(upload_mb=0.5, concurrency=1, queue=1, time_s=30)
    service = Service(make_handler, limits=limits, folder=tmp_path_factory.mktemp("uploads"))
    service.workers.wait()
    with TestClient(create_federation_api(release, service)) as http:
        result = Federation("http://nobody")
        result._http = http
        yield result


def test_the_status_tells_rounds_clients_and_refusals(federation: Federation) -> None:
    status = federation.status()
    assert status["round"] == 1 and status["rounds"] == 1 and not status["done"]
    assert [c["accepted"] for c in status["clients"]] == [1, 1, 1, 1]
    assert status["contributions"] == 4 and status["arms"] == ["A", "B"]
    assert 0 <= status["measured"]["1"]["test"]["uar"] <= 1
    page = status_page(status)
    assert "ravdess/0" not in page  # names of clients stay out of the page
    assert "&lt;b&gt;malformed" in page and "1 of 1" in page


def test_the_newest_model_travels_and_is_verified(
    federation: Federation, release: LatestRelease, tmp_path: Path
) -> None:
    loaded = federation.model(tmp_path / "model")
    kept = release.store.latest()
    assert kept is not None
    assert digest_of(arrays_of(loaded.net, kept.average)) == digest_of(kept.average)
    assert all(s.startswith("federation/contributor-") for s in loaded.provenance.speakers)
    again = federation.model(tmp_path / "model", arm="B")  # the folder is taken over
    assert again.name == "tiny"
    with pytest.raises(ServerError, match="expected one of A, B"):
        federation.model(tmp_path / "model", arm="C")


def test_a_model_that_holds_other_files_is_refused(release: LatestRelease, tmp_path: Path) -> None:
    good = pack(release.folder / "bundle")
    for name in ("../evil.py", "evil.pkl", "model-/../../x.safetensors"):
        packed = io.BytesIO(good)
        with zipfile.ZipFile(packed, "a") as file:
            file.writestr(name, "x")
        with pytest.raises(BundleError, match="other files"):
            unpack(packed.getvalue(), tmp_path / "model")
    with pytest.raises(BundleError, match="Bad model of the server"):
        unpack(b"no zip", tmp_path / "model")
    assert not (tmp_path / "model").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(BundleError, match="no bundle to replace"):
        unpack(good, tmp_path / "mine")


@pytest.mark.parametrize("damage", ["weights", "config", "missing"])
def test_a_refused_download_leaves_the_old_model(
    damage: str, release: LatestRelease, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    unpack(pack(release.folder / "bundle"), folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as packed:
        for name, content in before.items():
            if damage == "weights" and name.startswith("model-"):
                content = content[:-1] + bytes([content[-1] ^ 1])
            if damage == "config" and name == "config.yaml":
                content = content.replace(b"class_path: avser.", b"class_path: os.")
            if damage != "missing" or name != "trained_on.yaml":
                packed.writestr(name, content)
    with pytest.raises(BundleError, match="Bad "):
        unpack(changed.getvalue(), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert bundle.load(folder).name == unpack(pack(folder), folder).name


def test_contributors_are_published_under_pseudonyms(
    federation: Federation, release: LatestRelease, tmp_path: Path
) -> None:
    status = federation.status()
    loaded = federation.model(tmp_path / "model")
    public = json.dumps(status) + (tmp_path / "model" / "trained_on.yaml").read_text()
    names = [line["client"] for line in release.store.events() if line["event"] == "joined"]
    assert names and not any(name in public for name in [*names, '"eve"', "at/home"])
    shown = [c["client"] for c in status["clients"]]
    assert len(set(shown)) == 4 and all(c.startswith("contributor-") for c in shown)
    assert sorted(loaded.provenance.speakers) == sorted(f"federation/{c}" for c in shown)
    again = LatestRelease(folder=release.folder, tests={})
    assert [c["client"] for c in again.status()["clients"]] == shown  # after a restart too
    named = LatestRelease(folder=release.folder, tests={}, show_names=True).status()
    assert [c["client"] for c in named["clients"]] == names
    assert named["refusals"][0]["client"] == "eve" and "detail" not in named["refusals"][0]
    assert (release.folder / "pseudonyms.key").stat().st_mode & 0o077 == 0


def test_a_model_is_tested_on_the_servers_corpus(
    federation: Federation, release: LatestRelease
) -> None:
    row = federation.test("test")
    assert row["uar"] == release.status()["measured"]["1"]["test"]["uar"]
    assert row["n"] == len(release.tests["test"].parts.test)
    assert federation.test("test", arm="B")["model"] == "tiny"
    with pytest.raises(ServerError, match=r"Bad corpus 'tset'.*did you mean 'test'"):
        federation.test("tset")


def test_a_recording_is_predicted_and_mfcc_where_they_are_heard(
    federation: Federation, tmp_path: Path
) -> None:
    path = tmp_path / "take.wav"
    path.write_bytes(b"a take")
    assert federation.predict(path)["label"] == "happy"  # what the tests' worker says
    path.write_bytes(b"bad take")
    with pytest.raises(ServerError, match=r"Can't read take\.wav"):
        federation.predict(path)
    with pytest.raises(ServerError, match="front end is LogMel; send audio"):
        federation.predict(mfcc=[[0.0] * 13])
    reply = federation._http.post("/v1/predict", json={"mfcc": [[0.0] * 13]})
    assert reply.status_code == 422
    assert federation._http.post("/v1/predict", content=b"\xff").status_code == 422
    with pytest.raises(ConfigError, match="one of them"):
        federation.predict()


def test_mfcc_give_what_their_sound_gives() -> None:
    model = tiny_model(
        frontend={
            "class_path": "avser.models.frontends.mfcc.Mfcc",
            "init_args": {"coefficients": 16, "window": 512, "hop": 512, "n_fft": 512},
        },
        trim_db=None,
    )
    net = build_task(tiny_plan(model=model)).net.eval()
    wave = torch.from_numpy(voice("angry", seconds=1.3, sample_rate=16_000))[None].float()
    lengths = torch.tensor([wave.shape[1]])
    audio = net.audio
    assert audio is not None
    with torch.inference_mode():
        expected = net.audio_branch()(wave, lengths)[0][0]
        raw, mask = audio.raw_features(wave, lengths)
    rows = raw[0, 0, :, mask[0]].T.tolist()
    result = predict_mfcc(net, rows)
    assert list(result["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-4)
    for bad in ([[0.0] * 15], [], [[float("nan")] * 16], [["x"] * 16]):
        with pytest.raises(Exception, match="Bad input mfcc"):
            predict_mfcc(net, bad)  # type: ignore[arg-type]


def test_a_worker_uses_the_latest_release(release: LatestRelease, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    tiny_bundle(folder, ("happy", "sad", "angry"))
    handler = LatestReleaseHandler(folder)
    clip = write_wav(tmp_path / "a.wav", voice("sad", seconds=1.0, sample_rate=16_000)) or (
        tmp_path / "a.wav"
    )
    job, reports = Classify(path=Path(clip), modality="audio"), list[Progress]()
    first = handler(job, reports.append)
    assert isinstance(first, JobResult) and handler.models[0].row["name"] == "tiny"
    loaded = bundle.load(release.folder / "bundle")
    bundle.save(
        loaded.net, folder, spec=loaded.config["net"], name="newer", provenance=loaded.provenance
    )
    second = handler(job, reports.append)
    assert isinstance(second, JobResult) and handler.models[0].row["name"] == "newer"
    assert first.prediction.probabilities != second.prediction.probabilities
    assert reports[-1].stage == "model"
    (folder / "config.yaml").write_text("no bundle any more")
    next(folder.glob("model-*")).rename(folder / "model-00000000.safetensors")
    third = handler(job, reports.append)  # the previous model stays in use
    assert isinstance(third, JobResult)
    assert third.prediction.probabilities == second.prediction.probabilities


def test_a_session_is_read_back(release: LatestRelease, tmp_path: Path) -> None:
    settings, learner = read_session(release.folder)
    assert settings == release.settings and learner.plan == release.learner.plan
    names = names_of(learner.net, ["audio"])
    assert len(names) and np.isfinite(arrays_of(learner.net, names)[names[0]]).all()
    with pytest.raises(ConfigError, match="Bad run folder"):
        read_session(tmp_path)
