import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from job_handlers import ROW, make_handler, predicted

from avser.web.api import create_api
from avser.web.limits import Limits
from avser.web.schema import ClipSchema, Refusal
from avser.web.service import Service

LIMITS = Limits(upload_mb=0.2, duration_s=9, concurrency=1, queue=1, time_s=2)


class Client:
    """A server of fake job handlers, and its folder."""

    def __init__(self, folder: Path, *, token: str | None = None, limits: Limits = LIMITS) -> None:
        self.service = Service(make_handler, limits=limits, folder=folder)
        self.service.workers.wait()
        self.http = TestClient(create_api(self.service, token=token))

    def post(self, text: str, *, name: str = "take.wav", **more: Any) -> httpx.Response:
        files = {"file": (name, io.BytesIO(text.encode()))}
        return self.http.post("/v1/classify", files=files, **more)

    def refused(self, reply: httpx.Response, status: int) -> Refusal:
        assert reply.status_code == status, reply.text
        found = Refusal.model_validate(reply.json())
        assert (
            found.error.message.startswith(("Bad ", "Can't ", "Timeout: ", "The server is busy: "))
            and "\n" not in found.error.message
        )
        assert str(self.service.folder) not in reply.text
        return found

    def left(self) -> list[str]:
        return sorted(p.name for p in self.service.folder.rglob("*"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    found = Client(tmp_path_factory.mktemp("uploads"))
    with found.http:
        yield found


@pytest.fixture(autouse=True)
def nothing_is_left(client: Client) -> Iterator[None]:
    yield
    assert client.left() == []
    assert client.service.workers.taken == 0


# -- answers -------------------------------------------------------------------------------------


def test_answer_is_the_object_of_the_command_and_of_the_document(client: Client) -> None:
    reply = client.post("good", name="C:\\mine\\take 1.wav")
    assert reply.status_code == 200
    found = reply.json()
    assert list(found) == list(predicted("x").to_dict())
    assert found == predicted("take 1.wav").to_dict()  # also inside the reason
    ClipSchema.model_validate(found)


def test_models_health_and_document(client: Client) -> None:
    assert client.http.get("/v1/models").json() == {"models": [ROW]}
    health = client.http.get("/healthz")
    assert (health.status_code, health.json()["status"], health.json()["workers"]) == (200, "ok", 1)
    document = client.http.get("/openapi.json").json()
    assert {"/v1/classify", "/v1/models", "/healthz"} == set(document["paths"])
    replies = document["paths"]["/v1/classify"]["post"]["responses"]
    assert {"200", "401", "413", "422", "429", "500", "504"} == set(replies)


def test_no_page_that_loads_from_other_hosts(client: Client) -> None:
    assert client.http.get("/docs").status_code == 404
    assert client.http.get("/redoc").status_code == 404


# -- refusals ------------------------------------------------------------------------------------


def test_bad_clip_is_named_as_its_owner_names_it(client: Client) -> None:
    found = client.refused(client.post("bad", name="mine.mp4"), 422)
    assert found.path == "mine.mp4" and found.error.type == "MediaError"
    assert found.error.message == "Can't read mine.mp4: it is bad; send another."


def test_long_clip(client: Client) -> None:
    found = client.refused(client.post("long"), 422)
    assert found.error.type == "TooLongError" and "longer than 9 s" in found.error.message


def test_large_upload_is_refused_by_its_stated_and_by_its_real_size(client: Client) -> None:
    large = "good " * 60_000
    assert client.refused(client.post(large), 413).error.type == "TooLargeError"
    reply = client.post(large)
    request = httpx.Request("POST", "http://x/", files={"file": ("a.wav", large.encode())})
    body, kind = request.read(), request.headers["content-type"]
    pieces = (body[i : i + 9_999] for i in range(0, len(body), 9_999))
    reply = client.http.post("/v1/classify", content=pieces, headers={"content-type": kind})
    assert "content-length" not in reply.request.headers
    assert "0.2 MB" in client.refused(reply, 413).error.message


def test_hanging_clip_is_answered_in_time_and_the_next_one_too(client: Client) -> None:
    began = time.monotonic()
    found = client.refused(client.post("hang"), 504)
    assert found.error.type == "LateError" and time.monotonic() - began < 4
    deadline = time.monotonic() + 20
    while (reply := client.post("good")).status_code != 200 and time.monotonic() < deadline:
        pass  # the worker starts again
    assert reply.status_code == 200


def test_crash_and_bug_show_a_sentence(client: Client) -> None:
    assert client.refused(client.post("crash"), 500).error.type == "BrokenError"
    found = client.refused(client.post("bug"), 500)
    assert "traceback" not in found.error.message


def test_full_queue(client: Client) -> None:
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(client.post, ["slow"] * 6))
    codes = sorted(reply.status_code for reply in replies)
    assert codes == [200, 200, 429, 429, 429, 429]
    busy = next(reply for reply in replies if reply.status_code == 429)
    assert "1 clips are processed and 1 wait" in client.refused(busy, 429).error.message
    assert busy.headers["retry-after"] == "1"


def test_requests_that_are_not_as_the_document_says(client: Client) -> None:
    found = client.refused(client.http.post("/v1/classify"), 422)
    assert "it has no clip" in found.error.message
    found = client.refused(client.post("good", data={"modality": "smell"}), 422)
    assert found.error.message.startswith("Bad modality 'smell': expected 'auto', 'audio'")
    assert client.refused(client.http.get("/v1/classify"), 405)
    assert client.refused(client.http.get("/v1/nothing"), 404)


# -- token ---------------------------------------------------------------------------------------


def test_token_is_asked_for_before_anything_else(tmp_path: Path) -> None:
    locked = Client(tmp_path / "uploads", token="sésame")
    locked.service.folder.mkdir()
    with locked.http:
        for wrong in (
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": "Basic sésame".encode()},
        ):
            reply = locked.post("good", headers=wrong)
            assert locked.refused(reply, 401).error.type == "UnauthorisedError"
            assert reply.headers["www-authenticate"] == "Bearer"
        assert locked.http.get("/v1/models").status_code == 401
        assert locked.http.get("/healthz").status_code == 200
        right = {"Authorization": "Bearer sésame".encode()}
        assert locked.post("good", headers=right).status_code == 200
        assert locked.http.get("/v1/models", headers=right).status_code == 200
    assert not locked.service.folder.exists() and locked.service.workers.alive == 0
