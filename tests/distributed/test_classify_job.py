import json
import os
from pathlib import Path
from typing import Any

import fragile_workers
import pytest

from avser.cli import main
from avser.distributed.classify import ClassifyWorker, rows_apart
from avser.distributed.engine import Cluster, build, local
from avser.distributed.folder import Folder
from avser.distributed.parts import Job
from avser.errors import ConfigError, MediaError
from avser.inference.writers import read_rows
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle

pytest.importorskip("pyarrow")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A command of five clips, one of them damaged."""
    clip = write_wav(tmp_path / "clip.wav", voice("happy"))
    for n in range(5):
        (tmp_path / "clips").mkdir(exist_ok=True)
        os.link(clip, tmp_path / "clips" / f"{n}.wav")
    (tmp_path / "clips" / "2.wav").unlink()
    (tmp_path / "clips" / "2.wav").write_bytes(b"no sound")
    model = str(tiny_bundle(tmp_path / "tiny"))
    return ["classify", str(tmp_path / "clips"), "--model", model, "--device", "cpu",
            "--part-clips", "2"]  # fmt: skip


def test_shards_of_a_job_give_the_rows_of_one_process(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = str(tmp_path / "whole.csv")
    assert main([*words[:-2], "--csv", whole]) == 1
    out, table = str(tmp_path / "job"), str(tmp_path / "table.parquet")
    assert main([*words, "--out", out, "--shard", "2/2", "--parquet", table]) == 0
    assert "others are not" in capsys.readouterr().err and not os.path.exists(table)
    assert main([*words, "--out", out, "--shard", "1/2", "--parquet", table]) == 1
    assert "wrote 5 rows" in capsys.readouterr().err
    assert list(read_rows(table)) == list(read_rows(whole))
    parts = {path: path.stat().st_mtime_ns for path in Path(out).glob("part-*")}
    assert main([*words, "--out", out]) == 1
    assert "0 to do" in capsys.readouterr().err
    assert parts == {path: path.stat().st_mtime_ns for path in Path(out).glob("part-*")}
    assert len(parts) == 3


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--engine", "ray"], "give --out DIR"),
        (["--shard", "1/2"], "give --out DIR"),
        (["--out", "X", "--json", "a.json"], "Bad --json"),
        (["--out", "X", "--plot", "a"], "Bad --plot"),
        (["--out", "X", "--shard", "1/2", "--engine", "ray"], "Bad --shard: Ray"),
        (["--out", "X", "--part-clips", "0"], "Bad --part-clips 0"),
        (["-", "--out", "X"], "can't read standard input"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(
    more: list[str], sentence: str, words: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([words[0], *more, *words[2:]] if "-" in more else [*words, *more]) == 1
    err = capsys.readouterr().err
    assert sentence in err and len(err.splitlines()) == 1


def test_actors_out_of_range_are_refused() -> None:
    for wrong in ({"actors": 0}, {"cpus": 0.0}, {"gpus": -1.0}):
        with pytest.raises(ConfigError, match="Bad actors"):
            Cluster(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Settings of a job whose classifier is `Fragile`."""
    monkeypatch.setenv("PYTHONPATH", str(Path(fragile_workers.__file__).parent))
    return {"out": str(tmp_path / "job"), "directory": os.getcwd(),
            "classifier": "fragile_workers:Fragile"}  # fmt: skip


def test_a_clip_that_ends_the_process_is_a_row(fragile: dict[str, Any]) -> None:
    rows = list(rows_apart(["a", "poison", "b", "poison"], fragile))
    assert [row.get("label") for row in rows] == ["sad", None, "sad", None]
    assert "exit code 9" in rows[1]["error"]["message"]


def test_a_part_that_ended_its_worker_twice_is_done_clip_by_clip(fragile: dict[str, Any]) -> None:
    folder = Folder(fragile["out"])
    job = Job(folder, settings={}, inputs=["a", "poison", "b"], part_clips=3)
    (part,) = job.parts
    with folder.write(f"{part.name}.attempts") as file:
        file.write(b"2")
    items = [{"name": part.name, "offset": part.offset}]
    assert list(local("avser.distributed.classify:ClassifyWorker", fragile, items)) == [
        {"name": part.name, "rows": 3, "failed": 1}
    ]
    done = job.finish()
    assert done is not None and (done.rows, done.failed) == (3, 1)
    assert not [name for name in folder.names() if name.endswith("attempts")]


def test_an_error_of_the_model_is_no_attempt(fragile: dict[str, Any]) -> None:
    folder = Folder(fragile["out"])
    (part,) = Job(folder, settings={}, inputs=["a"]).parts
    worker = build(
        "avser.distributed.classify:ClassifyWorker",
        {**fragile, "classifier": "fragile_workers:Refusing"},
    )
    assert isinstance(worker, ClassifyWorker)
    for _ in range(3):
        with pytest.raises(MediaError):
            worker({"name": part.name, "offset": part.offset})
    assert json.loads((Path(fragile["out"]) / "job.json").read_text())["inputs"]
    assert folder.names() == {"inputs.jsonl", "job.json"}
