"""Rows on disk as they come."""

import json
from pathlib import Path

import pytest

from avser.errors import ConfigError, StorageError
from avser.inference.row_log import RowLog, log_path

SETTINGS = {"model": ["a"], "modality": "auto"}


def row(path: str, label: str = "happy") -> dict[str, str]:
    return {"path": path, "label": label}


def failed(path: str) -> dict[str, object]:
    return {"path": path, "error": {"type": "MediaError", "message": "no"}}


def paths(log: RowLog) -> list[str]:
    return [r["path"] for r in log.rows()]


def test_each_row_is_on_disk_when_it_is_added(tmp_path: Path) -> None:
    path = log_path(tmp_path / "new" / "out.json")
    assert path.name == "out.json.part.jsonl"
    with RowLog(path, settings=SETTINGS) as log:
        for name in ("a", "b"):
            log.add(log.reserve(), row(name))
            lines = path.read_text().splitlines()
            assert json.loads(lines[-1]) == row(name)
        assert paths(log) == ["a", "b"]


def test_a_job_goes_on_in_the_order_of_its_inputs(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with RowLog(path, settings=SETTINGS) as log:
        for each in (row("a"), failed("b"), row("c")):
            log.add(log.reserve(), each)
    with path.open("ab") as file:
        file.write(b'{"path": "d", "lab')  # killed in the middle of a row
    with RowLog(path, settings=SETTINGS) as log:
        assert log.known == 2
        places = {}
        for name in ("new", "a", "b", "c", "d"):
            if not log.keep(name):
                places[name] = log.reserve()
        assert sorted(places) == ["b", "d", "new"]  # a failure is tried again
        for name in ("d", "new", "b"):
            log.add(places[name], row(name, "sad"))
        assert paths(log) == ["new", "a", "b", "c", "d"]
        assert [r["label"] for r in log.rows()] == ["sad", "happy", "sad", "happy", "sad"]
    with RowLog(path, settings=SETTINGS) as log:
        assert all(log.keep(name) for name in ("new", "a", "b", "c", "d"))
        log.remove()
    assert not path.exists()


def test_half_a_first_line_is_a_new_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"settings": {"mod')
    with RowLog(path, settings=SETTINGS) as log:
        assert log.known == 0
        log.add(log.reserve(), row("a"))
    with RowLog(path, settings=SETTINGS) as log:
        assert log.keep("a")


def test_rows_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with RowLog(path, settings=SETTINGS) as log:
        log.add(log.reserve(), row("a"))
    with pytest.raises(ConfigError, match=r"another model \(\['a'\]\).*remove that file"):
        RowLog(path, settings={**SETTINGS, "model": ["b"]})
    path.write_text("no log\n")
    with pytest.raises(ConfigError, match="line 1 is no row"):
        RowLog(path, settings=SETTINGS)


def test_rows_of_a_finished_job_are_kept_but_for_its_failures(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with RowLog(path, settings=SETTINGS, earlier=lambda: [row("a"), failed("b")]) as log:
        assert log.keep("a") and not log.keep("b")


def test_a_log_without_rows_is_removed(tmp_path: Path) -> None:
    with RowLog(tmp_path / "log", settings=SETTINGS) as log:
        log.reserve()
    assert not (tmp_path / "log").exists()


def test_a_name_that_is_not_utf8_is_known_again(tmp_path: Path) -> None:
    with RowLog(tmp_path / "log", settings=SETTINGS) as log:
        log.add(log.reserve(), row("caf\udce9.wav"))
    with RowLog(tmp_path / "log", settings=SETTINGS) as log:
        assert log.keep("caf\udce9.wav")
        assert paths(log) == ["caf\udce9.wav"]


def test_a_log_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with RowLog(path, settings=SETTINGS) as log:
        log.add(log.reserve(), row("a"))
        with pytest.raises(StorageError, match="another process is writing it"):
            RowLog(path, settings=SETTINGS)
        log.add(log.reserve(), row("b"))
    with RowLog(path, settings=SETTINGS) as log:
        assert log.keep("a") and log.keep("b")
