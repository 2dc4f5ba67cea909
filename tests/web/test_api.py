import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from job_handlers import ROW, make_handler, predicted

from avser.types import FaceResult
from avser.web.api import create_api
from avser.web.events import EVENTS
from avser.web.limits import Limits
from avser.web.schema import ClipSchema, PredictionSchema, Refusal
from avser.web.service import Service

FACE = FaceResult(
    face_id=0,
    label="sad",
    probabilities={"happy": 0.25, "sad": 0.75},
    timeline=predicted("").timeline,
    boxes=predicted("").boxes,
)
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
        result = Refusal.model_validate(reply.json())
        assert (
            result.error.message.startswith(("Bad ", "Can't ", "Timeout: ", "The server is busy: "))
            and "\n" not in result.error.message
        )
        assert str(self.service.folder) not in reply.text
        return result

    def wait_for_worker(self) -> None:
        """Wait until a worker that was ended has started again."""
        deadline = time.monotonic() + 60
        while (reply := self.post("good")).status_code != 200 and time.monotonic() < deadline:
            pass
        assert reply.status_code == 200

    def left(self) -> list[str]:
        return sorted(p.name for p in self.service.folder.rglob("*"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    result = Client(tmp_path_factory.mktemp("uploads"))
    with result.http:
        yield result


@pytest.fixture(autouse=True)
def nothing_is_left(client: Client) -> Iterator[None]:
    yield
    assert client.left() == []
    assert client.service.workers.taken == 0


# -- answers -------------------------------------------------------------------------------------


def test_answer_is_the_object_of_the_command_and_of_the_document(client: Client) -> None:
    reply = client.post("good", name="C:\\mine\\take 1.wav")
    assert reply.status_code == 200
    result = reply.json()
    assert list(result) == list(predicted("x").to_dict())
    assert result == predicted("take 1.wav").to_dict()  # also inside the reason
    ClipSchema.model_validate(result)


def test_models_health_and_document(client: Client) -> None:
    assert client.http.get("/v1/models").json() == {"models": [ROW]}
    health = client.http.get("/healthz")
    assert (health.status_code, health.json()["status"], health.json()["workers"]) == (200, "ok", 1)
    document = client.http.get("/openapi.json").json()
    paths = {"/v1/classify", "/v1/render", "/v1/models", "/v1/models/{name}/card", "/healthz"}
    assert paths == set(document["paths"])
    replies = document["paths"]["/v1/classify"]["post"]["responses"]
    assert {"200", "401", "413", "422", "429", "500", "504"} == set(replies)


def test_no_page_that_loads_from_other_hosts(client: Client) -> None:
    assert client.http.get("/docs").status_code == 404
    assert client.http.get("/redoc").status_code == 404


def events(reply: httpx.Response) -> list[dict[str, Any]]:
    assert reply.status_code == 200 and reply.headers["content-type"] == EVENTS
    return [json.loads(line) for line in reply.text.splitlines()]


def test_progress_comes_before_a_result_with_all_that_the_page_shows(client: Client) -> None:
    *progress, last = events(client.post("slow", headers={"Accept": EVENTS}))
    assert progress[0] in ({"stage": "decode"}, {"stage": "queue", "position": 1})
    assert progress[-1] == {"stage": "faces", "share": 0.5, "read_s": 0.25}
    result = last["result"]
    alone = predicted("take.wav").to_dict()
    assert {key: result[key] for key in alone} == alone
    assert result["boxes"] == [{"time_s": 0, "x": 0.1, "y": 0.1, "w": 0.5, "h": 0.5, "score": 0.9}]
    assert result["voice"]["label"] == "happy" and result["voice"]["timeline"] == alone["timeline"]
    assert (result["peaks"], result["has_video"], result["faces"]) == ([0, 1], True, [])


def test_error_is_the_last_line_of_the_progress(client: Client) -> None:
    *_, last = events(client.post("bad", name="mine.mp4", headers={"Accept": EVENTS}))
    assert Refusal.model_validate(last).error.message.startswith("Can't read mine.mp4")


def render(client: Client, format: str, content: object, **files: Any) -> httpx.Response:
    sent = {"prediction": ("p.json", json.dumps(content).encode()), **files}
    return client.http.post("/v1/render", data={"format": format}, files=sent)


def test_result_is_written_in_other_formats(client: Client) -> None:
    sent = predicted("C:/mine/take.wav").to_dict()
    reply = render(client, "eaf", sent)
    assert (reply.status_code, reply.text) == (200, "eaf of happy")
    assert reply.headers["content-type"].startswith("application/xml")
    reply = render(client, "mp4", sent, file=("take.mp4", b" the clip"))
    assert reply.text == "mp4 of happy the clip" and reply.headers["content-type"] == "video/mp4"
    unknown = client.refused(render(client, "exe", sent), 422).error.message
    assert unknown.startswith("Bad format 'exe': expected one of csv")
    wrong = client.refused(render(client, "csv", {**sent, "label": 3}), 422).error.message
    assert wrong.startswith("Bad prediction: ") and wrong.endswith("send what /v1/classify gave.")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"duration_s": -1.0}, "duration_s: Input should be greater than or equal to 0"),
        ({"duration_s": float("nan")}, "duration_s: Input should be a finite number"),
        ({"duration_s": float("inf")}, "duration_s: Input should be "),
        ({"duration_s": 1e300}, "duration_s: Input should be less than or equal to 1000000"),
        ({"probabilities": {"happy": 1.5}}, "probabilities.happy: Input should be less than"),
        ({"probabilities": {"happy": float("nan")}}, "probabilities.happy: Input should be a fin"),
        ({"timeline": [(-1.0, 1.0)]}, "timeline.0.start_s: Input should be greater than"),
        ({"timeline": [(0.0, float("nan"))]}, "timeline.0.end_s: Input should be a finite number"),
        ({"timeline": [(2.0, 1.0)]}, "timeline.0: Value error, it ends at 1 s, before its start"),
        ({"timeline": [(0.0, 1.0), (0.5, 2.0)]}, "the step at 0.5 s begins before the end of the"),
        ({"boxes": [{"time_s": -1.0}]}, "boxes.0.time_s: Input should be greater than or equal"),
        ({"boxes": [{"x": float("inf")}]}, "boxes.0.x: Input should be "),
        ({"boxes": [{"w": -0.1}]}, "boxes.0.w: Input should be greater than or equal to 0"),
        ({"boxes": [{"score": float("nan")}]}, "boxes.0.score: Input should be a finite number"),
    ],
)
def test_numbers_that_no_prediction_has_are_refused(
    client: Client, change: dict[str, Any], sentence: str
) -> None:
    box = {"time_s": 0.0, "x": 0.1, "y": 0.1, "w": 0.2, "h": 0.2, "score": 1.0}
    step = {"label": "happy", "probabilities": {"happy": 1.0}}
    change = dict(change)
    if "timeline" in change:
        times = change["timeline"]
        change["timeline"] = [{**step, "start_s": a, "end_s": b} for a, b in times]
    if "boxes" in change:
        change["boxes"] = [{**box, **values} for values in change["boxes"]]
    reply = render(client, "csv", predicted("a.wav").to_dict() | change)
    message = client.refused(reply, 422).error.message
    assert message.startswith("Bad prediction: ") and sentence in message
    assert message.endswith("; send what /v1/classify gave.") and "\n" not in message


def test_schema_gives_the_prediction_back() -> None:
    whole = replace(predicted("a.wav"), faces=(FACE,))
    sent = whole.to_dict() | {"boxes": [asdict(box) for box in whole.boxes]}
    assert PredictionSchema.model_validate(sent).prediction() == whole


def test_card_of_a_loaded_model(client: Client) -> None:
    assert client.http.get("/v1/models/fake/card").text == "# A card"
    assert (
        "Bad model 'none'"
        in client.refused(client.http.get("/v1/models/none/card"), 404).error.message
    )


# -- refusals ------------------------------------------------------------------------------------


def test_bad_clip_is_named_as_its_owner_names_it(client: Client) -> None:
    result = client.refused(client.post("bad", name="mine.mp4"), 422)
    assert result.path == "mine.mp4" and result.error.type == "MediaError"
    assert result.error.message == "Can't read mine.mp4: it is bad; send another."


def test_long_clip(client: Client) -> None:
    result = client.refused(client.post("long"), 422)
    assert result.error.type == "TooLongError" and "longer than 9 s" in result.error.message


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
    result = client.refused(client.post("hang"), 504)
    assert result.error.type == "LateError" and time.monotonic() - began < 4
    client.wait_for_worker()


def test_crash_and_bug_show_a_sentence(client: Client) -> None:
    assert client.refused(client.post("crash"), 500).error.type == "BrokenError"
    client.wait_for_worker()
    result = client.refused(client.post("bug"), 500)
    assert "traceback" not in result.error.message


def test_full_queue(client: Client) -> None:
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(client.post, ["slow"] * 6))
    codes = sorted(reply.status_code for reply in replies)
    assert codes == [200, 200, 429, 429, 429, 429]
    busy = next(reply for reply in replies if reply.status_code == 429)
    refused = client.refused(busy, 429).error
    assert "1 clips are processed and 1 wait; you would be number 2" in refused.message
    assert refused.position == 2
    assert busy.headers["retry-after"] == "1"


def test_requests_that_are_not_as_the_document_says(client: Client) -> None:
    result = client.refused(client.http.post("/v1/classify"), 422)
    assert "it has no clip" in result.error.message
    lacking = client.http.post("/v1/render", files={"prediction": b"{}"})
    assert "it lacks the multipart field 'format'" in client.refused(lacking, 422).error.message
    result = client.refused(client.post("good", data={"modality": "smell"}), 422)
    assert result.error.message.startswith("Bad modality 'smell': expected 'auto', 'audio'")
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
