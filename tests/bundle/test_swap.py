"""Replacing a bundle while others read it."""

import threading
import time
from pathlib import Path

import pytest

from avser.bundle import serialization as bundle
from avser.bundle import swap
from avser.bundle.serialization import Provenance
from avser.bundle.swap import read_unchanged, replace_folder
from avser.errors import BundleError
from avser.testing.nets import tiny_net, tiny_spec


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def make_folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "mark").write_text(text)
    return path


@pytest.mark.parametrize("exchange", [True, False], ids=["one call", "two renames"])
def test_a_folder_takes_the_place_of_another(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(swap, "_exchange", lambda first, second: False)
    old = make_folder(tmp_path / "model", "old")
    replace_folder(make_folder(tmp_path / "new", "new"), old)
    assert (old / "mark").read_text() == "new" and files(tmp_path) == {"model"}
    replace_folder(make_folder(tmp_path / "new", "first"), tmp_path / "other")
    assert (tmp_path / "other" / "mark").read_text() == "first"


def test_the_old_folder_is_put_back_where_the_new_one_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_exchange", lambda first, second: False)
    old = make_folder(tmp_path / "model", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "nowhere", old)
    assert (old / "mark").read_text() == "old" and files(tmp_path) == {"model"}


def test_a_folder_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    folder, seen = make_folder(tmp_path / "model", "0"), list[str]()

    def read(path: Path) -> str:
        seen.append((path / "mark").read_text())
        if len(seen) < 3:
            replace_folder(make_folder(tmp_path / "new", str(len(seen))), folder)
        if len(seen) == 2:
            raise ValueError("half of each")
        return seen[-1]

    assert read_unchanged(lambda: folder, read, mark="mark") == "2"
    assert seen == ["0", "1", "2"]
    with pytest.raises(ValueError, match="damaged"):
        read_unchanged(lambda: folder, lambda path: _damaged(), mark="mark")


def _damaged() -> None:
    raise ValueError("damaged")


def test_a_reader_meets_the_old_model_or_the_new_one_and_no_half(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    nets = [tiny_net(), tiny_net()]
    for parameter in nets[1].parameters():
        parameter.data.add_(1.0)

    def save(number: int) -> None:
        bundle.save(
            nets[number % 2],
            folder,
            spec=tiny_spec(),
            name=f"model-{number}",
            provenance=Provenance(speakers=[f"model-{number}"]),
        )

    save(0)
    read: list[str] = []
    errors: list[Exception] = []
    done = threading.Event()

    def reader() -> None:
        while not done.is_set():
            try:
                loaded = bundle.load(folder)
            except Exception as error:
                errors.append(error)
                return
            number = int(loaded.name.partition("-")[2])
            assert loaded.provenance.speakers == [loaded.name]
            first = next(loaded.net.parameters()), next(nets[number % 2].parameters())
            assert bool((first[0] == first[1]).all())
            read.append(loaded.name)

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        for number in range(1, 61):
            save(number)
            if number % 20 == 0:  # a reader that is always overtaken would read for ever
                before = len(read)
                while len(read) == before and thread.is_alive():
                    time.sleep(0.001)
    finally:
        done.set()
        thread.join()
    assert errors == [] and len(set(read)) >= 3
    assert files(tmp_path) == {"bundle"}


def test_weights_that_do_not_reach_the_disk_replace_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(name: str) -> None:
        bundle.save(
            tiny_net(),
            tmp_path / "bundle",
            spec=tiny_spec(),
            name=name,
            provenance=Provenance(speakers=["1"]),
        )

    save("old")
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: write(self, data[:-1]))
    with pytest.raises(BundleError, match="the hash does not match"):
        save("new")
    assert bundle.load(tmp_path / "bundle").name == "old" and files(tmp_path) == {"bundle"}
