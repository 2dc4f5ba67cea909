"""The contributor's page: what it stores, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from avser.federated.client.contribute_page import ContributionSession, LatestModel, create_app
from avser.federated.client.contributions import Contributions
from avser.testing.media import Sound, voice, write_wav
from avser.testing.nets import tiny_bundle

OWN = "http://127.0.0.1:7861"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    model = LatestModel(None, tiny_bundle(tmp_path / "bundle", ("happy", "sad")))
    (tmp_path / "scratch").mkdir()
    session = ContributionSession(model, Contributions(tmp_path / "mine"), tmp_path / "scratch")
    with TestClient(create_app(session), base_url=OWN) as client:
        yield client
    assert list((tmp_path / "scratch").iterdir()) == [], "recordings are deleted"


def recording(folder: Path, samples: Sound) -> dict[str, bytes]:
    return {"file": write_wav(folder / "clip.wav", samples).read_bytes()}


def test_submission_stores_features_until_it_is_withdrawn(
    client: TestClient, tmp_path: Path
) -> None:
    state = client.get("/v1/contribution").json()
    assert state["prompt"] in ("happy", "sad") and state["keep"] == "features"
    checked = client.post("/v1/predict", files=recording(tmp_path, voice("happy"))).json()
    assert sum(checked["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert checked["label"] == max(checked["probabilities"], key=checked["probabilities"].get)
    form = {"id": checked["id"], "prompted": checked["label"]}
    tally = client.post("/v1/submit", data=form).json()["tally"]
    assert (tally["submitted"], tally["recognised"]) == (1, 1)
    kept = [path.suffix for path in (tmp_path / "mine").rglob("*") if path.is_file()]
    assert sorted(kept) == [".jsonl", ".safetensors"]
    again = client.post("/v1/submit", data=form)
    assert again.status_code == 422 and "its recording is gone" in again.text
    withdrawn = client.post("/v1/withdraw").json()
    assert withdrawn["withdrawn"] == 1 and withdrawn["tally"]["submitted"] == 0
    assert not [path for path in (tmp_path / "mine").rglob("*") if path.is_file()]


def test_what_cannot_be_used_gets_one_sentence(client: TestClient, tmp_path: Path) -> None:
    silent = recording(tmp_path, np.zeros(16_000, np.float32))
    for files, sentence in (
        (silent, "Bad recording: it has no speech; record it again."),
        ({"file": b"no sound"}, "it is no recording"),
    ):
        reply = client.post("/v1/predict", files=files)
        assert reply.status_code == 422 and sentence in reply.json()["error"]["message"]
    checked = client.post("/v1/predict", files=recording(tmp_path, voice("sad"))).json()
    wrong = client.post("/v1/submit", data={"id": checked["id"], "prompted": "jolly"})
    assert wrong.status_code == 422 and "the model has no such class" in wrong.text


def test_other_sites_may_not_ask(client: TestClient) -> None:
    """Neither by a form of theirs, nor by a name of theirs for this machine."""
    for headers in ({"origin": "http://evil.example"}, {"host": "evil.example:7861"}):
        assert client.post("/v1/withdraw", headers=headers).status_code == 403
    assert client.post("/v1/withdraw", headers={"origin": OWN}).status_code == 200


@pytest.mark.parametrize("name", ["", "contribute.js", "style.css", "texts.js", "dom.js"])
def test_page_loads_from_itself_alone(client: TestClient, name: str) -> None:
    reply = client.get(f"/{name}")
    assert (
        reply.status_code == 200
        and "default-src 'none'" in reply.headers["content-security-policy"]
    )
    assert "http://" not in reply.text and "https://" not in reply.text
