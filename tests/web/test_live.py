from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from avser.testing.media import voice
from avser.testing.nets import tiny_bundle
from avser.types import STEP_S, STEP_SAMPLES
from avser.web.job_handler import load
from avser.web.limits import Limits
from avser.web.server import create_app
from avser.web.service import Service


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("served")
    model = str(tiny_bundle(folder.with_name("model") / "tiny"))
    service = Service(partial(load, model=model), limits=Limits(concurrency=1), folder=folder)
    service.workers.wait()
    with TestClient(create_app(service, token="sesame")) as client:
        yield client


def refused(http: TestClient, first: Any, *, origin: str | None = None) -> str:
    headers = {} if origin is None else {"origin": origin}
    with http.websocket_connect("/v1/live", headers=headers) as socket:
        socket.send_json(first)
        return socket.receive_json()["error"]["message"]


def test_each_step_of_sound_gets_a_label_and_a_second_session_is_refused(http: TestClient) -> None:
    sound = (voice("angry", seconds=2 * STEP_S) * 32767).astype("<i2")[: 2 * STEP_SAMPLES]
    with http.websocket_connect("/v1/live") as socket:
        socket.send_json({"token": "sesame"})
        steps = []
        for half in np.split(sound, 2):
            socket.send_bytes(half.tobytes())
            steps.append(socket.receive_json())
        assert [s["start_s"] for s in steps] == pytest.approx([0, STEP_S])
        assert steps[1]["label"] is not None and steps[1]["modalities"] == ["audio"]
        assert sum(steps[1]["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert "1 live sessions are open" in refused(http, {"token": "sesame"})
        socket.send_bytes(b"odd")
        assert "expected 16-bit samples" in socket.receive_json()["error"]["message"]


def test_strangers_are_refused(http: TestClient) -> None:
    assert refused(http, {"token": "x"}).startswith("Bad token")
    assert refused(http, {}, origin="https://example.org").startswith("Bad origin")
    assert refused(http, ["no object"]).startswith("Bad message")
