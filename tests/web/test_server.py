import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from job_handlers import make_handler, predicted

from avser.errors import ConfigError
from avser.web.limits import Limits
from avser.web.page import Page
from avser.web.server import create_app, is_loopback, listen_at
from avser.web.service import Service


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")  # set by the server; given back after the test
    folder = tmp_path / "served"
    folder.mkdir()
    found = Service(make_handler, limits=Limits(concurrency=1, upload_mb=0.1), folder=folder)
    found.workers.wait()
    yield found
    found.close()


def client(service: Service, *, token: str | None = None) -> TestClient:
    """The application; made inside a loop, or Gradio leaves loops of its own open."""

    async def make() -> TestClient:
        return TestClient(create_app(service, token=token))

    return asyncio.run(make())


def test_page_and_interface_are_one_application(service: Service) -> None:
    with client(service) as http:
        page = http.get("/")
        assert page.status_code == 200 and "fonts.googleapis" not in page.text
        assert http.get("/healthz").json()["status"] == "ok"
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        text = http.get("/config").text
        for words in ("Clip", "Several clips", "About the model", "# A card", "deleted as soon"):
            assert words in text
        assert http.get("/gradio_api/info").json()["named_endpoints"] == {}  # ours is /v1
        large = {"files": ("a.wav", b"x" * 200_000)}
        assert http.post("/gradio_api/upload", files=large).status_code == 413
        kept = http.post("/gradio_api/upload", files={"files": ("a.wav", b"good")}).json()
        assert Path(kept[0]).is_relative_to(service.folder / "page")
    assert not service.folder.exists()


def test_two_visitors_who_send_the_same_file_have_a_path_each(service: Service) -> None:
    with client(service) as http:
        sent = [
            http.post("/gradio_api/upload", files={"files": ("a.wav", b"good")}).json()[0]
            for _ in range(3)
        ]
        assert len(set(sent)) == 3
        for path in sent:  # the first one's result deletes the first one's file alone
            label, *_ = asyncio.run(classified(Page(service), path))
            assert label == predicted("x").probabilities


async def classified(page: Page, path: str) -> list[Any]:
    """The last update of the page for an upload."""
    return [update async for update in page.clip(path)][-1]


def test_address_in_a_files_place_is_not_fetched(service: Service) -> None:
    with client(service):
        import gradio as gr
        from gradio.processing_utils import async_move_files_to_cache

        sent = {"path": "https://example.org/a.wav", "meta": {"_type": "gradio.FileData"}}
        with pytest.raises(gr.Error, match="asks no other host"):
            asyncio.run(async_move_files_to_cache(sent, gr.Audio(), check_in_upload_folder=True))


def test_token_is_the_password_of_the_page(service: Service) -> None:
    with client(service, token="sesame") as http:
        files = {"files": ("a.wav", b"good")}
        assert http.post("/gradio_api/upload", files=files).status_code == 401
        assert http.get("/config").status_code == 401
        assert http.post("/login", data={"username": "me", "password": "x"}).status_code == 400
        assert http.post("/login", data={"username": "me", "password": "sesame"}).status_code == 200
        assert http.get("/config").status_code == 200
        assert http.post("/gradio_api/upload", files=files).status_code == 200
        assert http.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.5", False), ("example.org", False)],
)  # fmt: skip
def test_loopback(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here


def test_address_that_is_taken_or_wrong_is_said() -> None:
    with listen_at("127.0.0.1", 0) as at:
        port = at.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Bad address 127.0.0.1:{port}.*--port"):
            listen_at("127.0.0.1", port)
    with pytest.raises(ConfigError, match="Bad port 70000: expected 0 to 65535"):
        listen_at("127.0.0.1", 70_000)
    with pytest.raises(ConfigError, match="choose another --host or --port"):
        listen_at("no.such.host.invalid", 80)
