import io
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from avser.errors import ConfigError, MediaError, StorageError
from avser.files import atomic_write, exclusive, is_special
from avser.stores import local_copy


def test_text_takes_its_name_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("new\n")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_bytes() == b"new\n"
    assert os.listdir(tmp_path) == ["figures.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_write(path) as file:
        file.write("half")
        raise KeyError("stop")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["figures.json"]


def test_binary_and_missing_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "plot.png"
    with atomic_write(path, mode="wb") as file:
        file.write(bytes(range(256)))
    assert path.read_bytes() == bytes(range(256))


def test_text_is_utf8_with_line_feeds(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "words.txt") as file:
        file.write("né\nè\n")
    assert (tmp_path / "words.txt").read_bytes() == "né\nè\n".encode()


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_others_may_read_it_as_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "atomic") as file:
        file.write("x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "shared"

    def write(letter: str) -> None:
        for _ in range(5):
            with atomic_write(path) as file:
                file.write(letter * 10_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = path.read_text()
    assert len(text) == 10_000
    assert len(set(text)) == 1
    assert os.listdir(tmp_path) == ["shared"]


def test_a_device_is_written_and_not_replaced() -> None:
    with atomic_write(os.devnull) as file:
        file.write("x")
    assert is_special(os.devnull) and not is_special("/no/such/file")


def test_a_name_that_is_not_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "names.txt") as file:
        file.write("caf\udce9\n")
    assert (tmp_path / "names.txt").read_bytes() == b"caf\xe9\n"


# -- local copies of inputs that are no files ----------------------------------------------------


def test_a_file_is_its_own_copy(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound")
    with local_copy(path) as copy:
        assert copy == path
    with local_copy(path.as_uri()) as copy:
        assert copy == path


def test_standard_input_and_pipes_are_copied_and_the_copy_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(b"sound")))
    with local_copy("-") as copy:
        assert copy.read_bytes() == b"sound"
    assert not copy.exists()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"more" * 100_000,))
    writer.start()
    with local_copy(pipe) as copy:
        assert copy.read_bytes() == b"more" * 100_000
    writer.join()


def test_a_copy_is_bounded_and_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    for data, settings, words in (
        (b"x" * 100, {"most": 99}, "more than 99 bytes"),
        (b"", {}, "it is empty"),
        (b"x", {"stopped": lambda: True}, "interrupted"),
    ):
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
        with pytest.raises(MediaError, match=words), local_copy("-", **settings):
            raise AssertionError("nothing may be given")


def test_an_address_is_read_through_fsspec_or_named_in_one_sentence() -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://bucket/a.wav", "wb") as file:
        file.write(b"sound")
    with local_copy("memory://bucket/a.wav") as copy:
        assert copy.read_bytes() == b"sound" and copy.suffix == ".wav"
    with pytest.raises(MediaError, match=r"Can't read memory://bucket/b.wav: "):
        local_copy("memory://bucket/b.wav").__enter__()
    with pytest.raises(MediaError, match=r"Can't read nothing://b.wav: Protocol not known"):
        local_copy("nothing://b.wav").__enter__()


def test_an_address_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match=r"https://a/b.wav.*pip install 'avser\[scale\]'"):
        local_copy("https://a/b.wav").__enter__()


FORKED = """
import os, sys
from avser.files import exclusive
with exclusive(sys.argv[1]):
    os.fork()
    os.write(1, b"ready\\n")
    sys.stdin.read()  # both stay
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share descriptors")
def test_a_lock_ends_with_its_killed_process_though_a_forked_one_lives(tmp_path: Path) -> None:
    words = [sys.executable, "-c", FORKED, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"ready\n"] * 2
        with (
            pytest.raises(StorageError, match="another process is writing it"),
            exclusive(tmp_path),
        ):
            pass
        process.kill()
        process.wait()
        with exclusive(tmp_path):
            pass
