import os
import threading
from pathlib import Path

import pytest

from avser.files import atomic_write


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
