import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from avser.data import content
from avser.data.content import content_hash, hash_files, open_table
from avser.errors import CacheError

TABLE = "CREATE TABLE IF NOT EXISTS rows (x INTEGER)"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read, in order."""
    names: list[str] = []
    whole = content.content_hash

    def noted(path: Path) -> str:
        names.append(path.name)
        return whole(path)

    monkeypatch.setattr(content, "content_hash", noted)
    return names


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_the_least_change_anywhere_makes_another_hash(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    hashes = {content_hash(write(tmp_path / "a", data))}
    for place in (100_000, 900_000, 2_200_000):
        changed = bytearray(data)
        changed[place] ^= 1
        hashes.add(content_hash(write(tmp_path / "a", bytes(changed))))
    assert len(hashes) == 4
    assert content_hash(write(tmp_path / "b", data)) in hashes


def test_a_file_is_read_again_only_when_it_changed(tmp_path: Path, read: list[str]) -> None:
    home = tmp_path / "cache"
    one, two = write(tmp_path / "one", b"1"), write(tmp_path / "two", b"2")
    first = hash_files([one, two, one], folder=home)
    assert sorted(read) == ["one", "two"] and first[one] != first[two]
    read.clear()
    assert hash_files([two, one], folder=home) == first and read == []
    about = one.stat()
    one.write_bytes(b"3")  # as long, and with the same time of change as before
    os.utime(one, ns=(about.st_atime_ns, about.st_mtime_ns))
    again = hash_files([one, two], folder=home)
    assert read == ["one"] and again[one] != first[one] and again[two] == first[two]


def test_what_can_not_be_read_is_said_of_that_file_alone(tmp_path: Path) -> None:
    good = write(tmp_path / os.fsdecode(b"caf\xe9.wav"), b"1")  # a name that is no UTF-8
    bad = [tmp_path / "none.wav", tmp_path / "a\0b.wav", tmp_path / ("x" * 300), tmp_path]
    results = hash_files([*bad, good], folder=tmp_path / "cache")
    assert results[good] == content_hash(good)
    assert all(isinstance(results[path], CacheError) for path in bad)
    assert "\0" not in str(results[bad[1]]) and "can't be read" in str(results[bad[1]])
    assert hash_files([good], folder=tmp_path / "cache")[good] == results[good]


def test_a_cache_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    blocked = write(tmp_path / "file", b"")
    with pytest.raises(CacheError, match="set AVSER_CACHE"):
        hash_files([blocked], folder=blocked / "cache")


@pytest.mark.parametrize(
    "damage", [lambda old: b"no database" * 500, lambda old: old[:60] + b"\xff" * (len(old) - 60)]
)
def test_many_at_once_set_a_damaged_table_aside_once(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "index.sqlite"
    open_table(path, TABLE).close()
    path.write_bytes(damage(path.read_bytes()))
    barrier = Barrier(8)

    def add(number: int) -> None:
        barrier.wait()
        connection = open_table(path, TABLE)
        with connection:
            connection.execute("INSERT INTO rows VALUES (?)", (number,))
        connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT COUNT(*) FROM rows").fetchone() == (8,)
    connection.close()
    assert len(list(tmp_path.glob("index.damaged-*"))) == 1
