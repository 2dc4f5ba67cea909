"""Inputs and jobs in stores: an S3 server and HTTP servers of this machine."""

import functools
import http.server
import json
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from avser.cli import main
from avser.cli.inputs import Inputs
from avser.data.audio_cache import prepare
from avser.datamodules.corpora.manifest import Manifest
from avser.datamodules.corpora.ravdess import Ravdess
from avser.distributed.folder import Folder
from avser.errors import CorpusError, MediaError, StorageError
from avser.inference.writers import read_rows
from avser.stores import local_copy
from avser.testing.corpora import FAKES
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle, tiny_spec

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
    with store_at(server, monkeypatch):
        store = s3fs.S3FileSystem()
        store.mkdir("clips")
        store.pipe(
            {"clips/a.wav": b"sound a", "clips/below/b.wav": b"sound b", "clips/n.txt": b"x"}
        )
        yield store
        store.rm("clips", recursive=True)


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


EXPIRED = (b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code>"
           b"<Message>The provided token has expired.</Message></Error>")  # fmt: skip


class Expired(http.server.BaseHTTPRequestHandler):
    """A server to which each credential has expired."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(400, EXPIRED)

    do_HEAD = do_PUT = do_GET  # noqa: N815

    def answer(self, status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def expired_from(number: int, server: str) -> type[Expired]:
    """A handler that gives what a server gives, and refuses recordings from a number on."""

    class Expiring(Expired):
        def do_GET(self) -> None:
            key = self.path.rpartition("/")[2].partition(".")[0]
            if key.isdigit() and int(key) >= number:
                super().do_GET()
                return
            names = ("Range", "Authorization", "x-amz-date", "x-amz-content-sha256")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            asked = urllib.request.Request(
                f"{server}{self.path}", headers=headers, method=self.command
            )
            try:
                with urllib.request.urlopen(asked) as given:
                    kept = [(k, v) for k, v in given.headers.items() if k in _KEPT]
                    length = given.headers["Content-Length"]
                    body = given.read() if self.command == "GET" else bytes(int(length or 0))
                    self.answer(given.status, body, kept)
            except urllib.error.HTTPError as error:
                self.answer(error.code, error.read())

        do_HEAD = do_GET  # noqa: N815

    return Expiring


_KEPT = {"ETag", "Last-Modified", "Content-Type", "Content-Range", "Accept-Ranges"}


@contextmanager
def store_at(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have s3fs ask a server."""
    with monkeypatch.context() as environment:
        for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"),
                            ("DEFAULT_REGION", "us-east-1"), ("ENDPOINT_URL", url)):  # fmt: skip
            environment.setenv(f"AWS_{name}", value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def denied(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store whose server says that the credential is no longer valid."""
    with _serving(Expired) as url, store_at(url, monkeypatch):
        yield


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
    with pytest.raises(StorageError, match=r"^Can't read s3://clips/a\.wav: .*check the address"):
        local_copy("s3://clips/a.wav").__enter__()
    with pytest.raises(StorageError, match=r"^Can't read s3://clips/: The provided token has exp"):
        list(Inputs(["s3://clips/"]))
    for read in (Ravdess("s3://clips").clips, Manifest("s3://clips/a.csv").clips):
        with pytest.raises(StorageError, match=r"^Can't read s3://clips.*check the address"):
            read()


def test_a_store_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with _serving(Expired) as url:
        pass  # nobody listens there any more
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with store_at(url, monkeypatch):
        for place in ("s3://clips/a.wav", "s3://clips/"):
            with pytest.raises(
                StorageError, match=rf"^Can't read {place}: Could not connect.*{url}"
            ):
                list(Inputs([place])) if place.endswith("/") else local_copy(place).__enter__()
        for root in ("s3://clips", "s3://clips/a.csv"):
            corpus = Manifest(root) if root.endswith(".csv") else Ravdess(root)
            with pytest.raises(
                StorageError, match=rf"^Can't read {root}: Could not connect.*{url}"
            ):
                corpus.clips()


def test_a_store_that_refuses_everything_ends_the_job_and_keeps_its_rows(
    server: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    sound = write_wav(tmp_path / "clip.wav", voice("happy", seconds=0.3)).read_bytes()
    places = [f"clips/job/{n:03}.wav" for n in range(22)]
    bucket.pipe(dict.fromkeys(places, sound))
    bucket.rm(places[3])
    (tmp_path / "list.txt").write_text("".join(f"s3://{place}\n" for place in places))
    words = ["classify", "--list", str(tmp_path / "list.txt"), "--device", "cpu", "--model",
             str(tiny_bundle(tmp_path / "tiny")), "--quiet"]  # fmt: skip
    table = tmp_path / "rows.csv"
    for more in (["--csv", str(table)], ["--out", str(tmp_path / "job"), "--part-clips", "10"]):
        with _serving(expired_from(20, server)) as url, store_at(url, monkeypatch):
            assert main([*words, *more]) == 1
        err = capsys.readouterr().err.strip().splitlines()[-1]
        assert re.fullmatch(
            r"avser classify: Can't read s3://clips/job/02\d\.wav: Bad Request; .*, then run the "
            r"same command again: what is finished is kept\.",
            err,
        )
        assert main([*words, *more, *(["--csv", str(table)] if "--out" in more else [])]) == 1
        rows = list(read_rows(str(table)))
        assert [row["path"] for row in rows] == [f"s3://{place}" for place in places]
        assert [row["path"] for row in rows if "error" in row] == [f"s3://{places[3]}"]
        table.unlink()


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


def test_a_manifest_on_a_web_server(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", voice("happy", seconds=0.4))
    (tmp_path / "list.csv").write_text("path,emotion\na.wav,happy\nnone.wav,sad\n")
    with _serving(functools.partial(Plain, directory=str(tmp_path))) as url:
        clips = Manifest(f"{url}/list.csv").clips()
        first = prepare(clips)
        assert [str(clip.path) for clip in first.clips] == [f"{url}/a.wav"]
        assert [why for _, why in first.failed] == [
            f"Can't read {url}/none.wav: there is no such file or bucket; check the address and "
            "the rights."
        ]
        write_wav(tmp_path / "a.wav", voice("sad", seconds=0.5))
        assert prepare(clips).waves.digests != first.waves.digests
        with pytest.raises(CorpusError, match=rf"^Bad manifest '{url}/no.csv': there is no such"):
            Manifest(f"{url}/no.csv").clips()
    with pytest.raises(MediaError, match=rf"^Can't read {url}/list\.csv: no server answers, or"):
        Manifest(f"{url}/list.csv").clips()


@pytest.mark.long
def test_every_command_reads_a_corpus_in_a_bucket(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The results are those of the local copy, and the sound of each file is read once."""
    local = FAKES["ravdess"](tmp_path / "ravdess", speakers=3, per_emotion=2)
    bucket.put(str(local), "clips/ravdess", recursive=True)
    read = count_reads(monkeypatch)
    (tmp_path / "tiny.yaml").write_text(
        yaml.safe_dump({"model": tiny_spec(), "trainer": {"max_epochs": 1, "accelerator": "cpu"}})
    )
    monkeypatch.setenv("AVSER_DATA", "s3://clips")
    run, data = tmp_path / "run", ["--corpus", "ravdess", "--data.split.init_args.folds=2"]
    assert main(["prepare", *data]) == 0
    assert "48 clips of ravdess" in capsys.readouterr().out
    assert main(["fit", *data, "-c", str(tmp_path / "tiny.yaml"), "--out", str(run)]) == 0
    assert main(["crossval", "--corpus", "ravdess", "-c", "configs/model/svm_mfcc.yaml",
                 "--folds", "2", "--out", str(tmp_path / "cv")]) == 0  # fmt: skip
    assert json.loads((tmp_path / "cv" / "results.json").read_text())["n"] == 48
    measured = []
    for root in ("s3://clips", str(tmp_path)):
        monkeypatch.setenv("AVSER_DATA", root)
        capsys.readouterr()
        assert main(["evaluate", "--model", str(run), "--corpus", "ravdess", "--json", "-"]) == 0
        measured.append(json.loads(capsys.readouterr().out))
    assert measured[0]["n"] == 48
    assert measured[0]["confusion"] == measured[1]["confusion"]
    assert len(read) == len(set(read)) == 48


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that this process reads from now on."""
    import fsspec

    names: list[str] = []
    read = fsspec.open

    def counting(name: str, mode: str) -> Any:
        names.append(name)
        return read(name, mode)

    monkeypatch.setattr(fsspec, "open", counting)
    return names


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
