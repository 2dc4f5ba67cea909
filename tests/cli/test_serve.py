from typing import Any

import pytest

from avser import extras
from avser.cli import main, serve
from avser.web import server
from avser.web.limits import Limits


class Served:
    """Stands for the server; keeps what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: dict[str, Any] = {}
        self.token: str | None = None
        monkeypatch.delenv("AVSER_TOKEN", raising=False)
        monkeypatch.setattr(server, "open_service", self._open)
        monkeypatch.setattr(server, "serve", self._serve)

    def _open(self, **settings: Any) -> Any:
        from types import SimpleNamespace as Fake

        self.opened = settings
        models = [Fake(row={"name": "tiny"})]
        return Fake(workers=Fake(models=models))

    def _serve(self, _service: object, at: Any, *, token: str | None) -> None:
        assert at.getsockname()[1] > 0
        self.token = token


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served(monkeypatch)


def test_says_what_it_serves_and_to_whom(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "0"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("tiny at http://127.0.0.1:") and not out[0].endswith(":0")
    assert out[1].startswith("Only this machine can reach it")
    assert served.token is None and served.opened["model"] is None


def test_flags_become_limits(served: Served) -> None:
    words = "--port 0 --max-upload 5 --max-duration 20 --concurrency 3 --queue 0 --time-limit 9"
    assert main(["serve", "--model", "x", *words.split()]) == 0
    assert served.opened["limits"] == Limits(
        upload_mb=5, duration_s=20, concurrency=3, queue=0, time_s=9
    )
    assert served.opened["model"] == "x"


def test_open_to_the_network_is_said_loudly(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "0", "--host", "0.0.0.0"]) == 0
    assert "OPEN TO THE NETWORK, to everybody without a token" in capsys.readouterr().out
    monkeypatch.setenv("AVSER_TOKEN", "sesame")
    assert main(["serve", "--port", "0", "--host", "0.0.0.0"]) == 0
    out = capsys.readouterr().out
    assert "to everybody who has the token" in out and "sesame" not in out
    assert served.token == "sesame"


def test_bad_limit_and_taken_port_are_one_sentence(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--queue", "-1"]) == 1
    assert capsys.readouterr().err == "avser serve: Bad queue -1: expected 0 or more.\n"
    with server.listen_at("127.0.0.1", 0) as at:
        assert main(["serve", "--port", str(at.getsockname()[1])]) == 1
    assert "choose another --host or --port" in capsys.readouterr().err


def test_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "uvicorn" else name)
    assert main(["serve"]) == 1
    assert capsys.readouterr().err == (
        "avser serve: Bad installation: uvicorn is missing; run pip install 'avser[web]'.\n"
    )


def test_default_concurrency_is_within_the_cores(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.os, "cpu_count", lambda: 1)
    assert main(["serve", "--port", "0"]) == 0
    assert served.opened["limits"].concurrency == 1
