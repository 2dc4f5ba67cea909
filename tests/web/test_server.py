import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from job_handlers import make_handler

from avser.errors import ConfigError
from avser.web.limits import Limits
from avser.web.server import create_app, is_loopback, listen_at
from avser.web.service import Service

ROOT = Path(__file__).parents[2]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    folder = tmp_path / "served"
    folder.mkdir()
    made = Service(make_handler, limits=Limits(concurrency=1, upload_mb=0.1), folder=folder)
    made.workers.wait()
    yield made
    made.close()


def test_page_and_interface_are_one_application(service: Service) -> None:
    with TestClient(create_app(service)) as http:
        page = http.get("/")
        assert page.status_code == 200 and 'src="app.js"' in page.text
        assert http.get("/healthz").json()["status"] == "ok"
        settings = http.get("/settings.json").json()
        assert settings["backend"] == "server" and settings["upload_mb"] == 0.1
        assert settings["colours"]["happy"] == "#f7de0d"
        assert http.get("/app.js").headers["content-type"].startswith("text/javascript")
        assert http.get("/../server.py").status_code == 404
        for name in ("sample.mp4", "sample_voice.mp3"):
            assert http.get(f"/{name}").content == (ROOT / "examples" / name).read_bytes()
    assert not service.folder.exists()


def test_page_runs_its_own_scripts_alone_and_names_no_other_host(service: Service) -> None:
    with TestClient(create_app(service)) as http:
        reply = http.get("/")
        policy = dict(
            part.strip().split(" ", 1)
            for part in reply.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'"
        assert policy["connect-src"] == "'self'" and policy["frame-ancestors"] == "'none'"
        assert reply.headers["x-content-type-options"] == "nosniff"
        for file in (files("avser.export") / "page").iterdir():
            if file.name.endswith((".html", ".js", ".css")):
                text = file.read_text("utf-8")
                assert "://" not in text, file.name
                assert " style=" not in text and "innerHTML" not in text, file.name


def test_samples_are_those_of_the_examples() -> None:
    for name in ("sample.mp4", "sample_voice.mp3"):
        page = (files("avser.export") / "page" / name).read_bytes()
        assert page == (ROOT / "examples" / name).read_bytes(), name


def test_every_language_has_every_text_and_the_page_uses_only_those() -> None:
    page = files("avser.export") / "page"
    source = (page / "texts.js").read_text("utf-8")
    blocks = re.findall(r"^const (?:en|de) = \{\n(.*?)^\};", source, re.MULTILINE | re.DOTALL)
    english, german = (
        {
            name: set(re.findall(r"\{(\w+)\}", words))
            for name, words in re.findall(r'^  (\w+): "(.*)",$', block, re.MULTILINE)
        }
        for block in blocks
    )
    assert english == german and len(english) > 80
    used = set()
    for file in page.iterdir():
        if file.name.endswith((".html", ".js")):
            text = file.read_text("utf-8")
            used |= set(re.findall(r'data-text="(\w+)"', text))
            used |= set(re.findall(r'\btext\(\s*"(\w+)"', text))
    assert used and used <= set(english)


def test_token_is_for_the_interface_and_the_page_asks_for_it(service: Service) -> None:
    with TestClient(create_app(service, token="sesame")) as http:
        clip = {"file": ("a.wav", b"good")}
        assert http.get("/").status_code == http.get("/settings.json").status_code == 200
        assert http.post("/v1/classify", files=clip).status_code == 401
        assert http.get("/v1/models/fake/card").status_code == 401
        right = {"Authorization": "Bearer sesame"}
        assert http.post("/v1/classify", files=clip, headers=right).status_code == 200
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
