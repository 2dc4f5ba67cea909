"""Inputs and jobs in stores: an S3 server and HTTP servers of this machine."""

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avser.cli.inputs import Inputs
from avser.distributed.folder import Folder
from avser.errors import MediaError, StorageError
from avser.files import local_copy

s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of an S3 server."""
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket with two recordings and a text, and the store it is in."""
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"),
                        ("DEFAULT_REGION", "us-east-1"), ("ENDPOINT_URL", server)):  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    store.mkdir("clips")
    store.pipe({"clips/a.wav": b"sound a", "clips/below/b.wav": b"sound b", "clips/n.txt": b"x"})
    yield store
    store.rm("clips", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket_is_read_listed_and_matched(bucket: Any) -> None:
    with local_copy("s3://clips/a.wav") as copy:
        assert copy.read_bytes() == b"sound a" and copy.suffix == ".wav"
    inputs = Inputs(["s3://clips/"])
    assert list(inputs) == ["s3://clips/a.wav"] and inputs.left_out == 1
    every = ["s3://clips/a.wav", "s3://clips/below/b.wav"]
    assert list(Inputs(["s3://clips"], recursive=True)) == every
    assert list(Inputs(["s3://clips/**/*.wav"])) == every
    assert list(Inputs(["s3://clips/none.wav"])) == ["s3://clips/none.wav"]  # its row is an error


def test_a_job_lies_in_a_bucket(bucket: Any) -> None:
    folder = Folder("s3://clips/job")
    assert folder.names() == set()
    with folder.write("part") as file:
        file.write(b"rows")
    assert folder.names() == {"part"}
    with folder.read("part") as file:
        assert file.read() == b"rows"
    with pytest.raises(FileNotFoundError), folder.read("other"):
        pass
    folder.remove("part")
    folder.remove("part")
    assert folder.names() == set()


def test_missing_keys_and_buckets_are_one_sentence(bucket: Any) -> None:
    for name in ("s3://clips/none.wav", "s3://nobucket/a.wav"):
        with pytest.raises(MediaError, match=f"^Can't read {name}: there is no such file or bu"):
            local_copy(name).__enter__()
    with pytest.raises(StorageError, match=r"^Can't write s3://nobucket/job/part: .*bucket"):
        with Folder("s3://nobucket/job").write("part") as file:
            file.write(b"x")


@pytest.fixture
def denied(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store whose server says that the credential is no longer valid."""
    body = (b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code>"
            b"<Message>The provided token has expired.</Message></Error>")  # fmt: skip

    class Expired(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Expired) as url:
        for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"),
                            ("DEFAULT_REGION", "us-east-1"), ("ENDPOINT_URL", url)):  # fmt: skip
            monkeypatch.setenv(f"AWS_{name}", value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield
        s3fs.S3FileSystem.clear_instance_cache()


class _serving:  # noqa: N801 (a context)
    """Serve HTTP on a free port."""

    def __init__(self, handler: Any) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_an_expired_credential_is_one_sentence(denied: None) -> None:
    with pytest.raises(MediaError, match=r"^Can't read s3://clips/a\.wav: .*check the address"):
        local_copy("s3://clips/a.wav").__enter__()
    with pytest.raises(MediaError, match=r"^Can't read s3://clips/: The provided token has exp"):
        list(Inputs(["s3://clips/"]))


class Plain(http.server.SimpleHTTPRequestHandler):
    """Files without ranges, as Python serves them."""

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Ranges(Plain):
    """The same with ranges."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        if wanted is None:
            super().do_GET()
            return
        data = Path(self.translate_path(self.path)).read_bytes()
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last or len(data)) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()


@pytest.mark.parametrize("handler", [Plain, Ranges])
def test_http_is_read_with_ranges_and_without(handler: Any, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "a.wav").write_bytes(content)
    with _serving(functools.partial(handler, directory=str(tmp_path))) as url:
        assert list(Inputs([f"{url}/a.wav?token=[1]"])) == [f"{url}/a.wav?token=[1]"]
        with local_copy(f"{url}/a.wav") as copy:
            assert copy.read_bytes() == content
        with pytest.raises(MediaError, match=rf"^Can't read {url}/b\.wav: no server answers, or"):
            local_copy(f"{url}/b.wav").__enter__()
    with pytest.raises(MediaError, match=rf"^Can't read {url}/a\.wav: no server answers"):
        local_copy(f"{url}/a.wav").__enter__()
