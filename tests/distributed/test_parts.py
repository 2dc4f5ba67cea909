import json
from pathlib import Path

import pytest

from avser.distributed.folder import Folder
from avser.distributed.parts import Job, Part, Shard, inputs_of, part_name, rows_of
from avser.errors import ConfigError, StorageError
from avser.inference.writers import write_parquet

pytest.importorskip("pyarrow")

PATHS = [f"{n}.wav" for n in range(10)]
PLACES = ("disk", "bucket")


@pytest.fixture(params=PLACES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A folder on the disk, and one in a store that fsspec opens."""
    place = tmp_path / "job" if request.param == "disk" else f"memory://{tmp_path.name}/job"
    return Folder(place)


def job(folder: Folder, paths: list[str] = PATHS, **more: object) -> Job:
    return Job(folder, settings={"model": "tiny"}, inputs=paths, part_clips=4, **more)  # type: ignore[arg-type]


def write(folder: Folder, part: Part) -> None:
    rows = [{"path": path, "error": {"message": "bad"}} if path == "3.wav" else
            {"path": path, "label": "happy", "duration_s": 1.0, "model": "tiny"}
            for path in inputs_of(folder, part)]  # fmt: skip
    with folder.write(part.name) as file:
        write_parquet(rows, file)


def test_names_follow_from_inputs_and_place() -> None:
    assert part_name(0, ["a", "bc"]) != part_name(0, ["ab", "c"])
    assert part_name(0, ["a"]) != part_name(1, ["a"])
    assert part_name(2, ["a\udcff"]) == part_name(2, iter(["a\udcff"]))  # not UTF-8 on the disk


def test_a_job_is_cut_finished_and_read_in_order(folder: Folder) -> None:
    made = job(folder)
    assert made.count == 10 and len(made.parts) == 3 and made.todo == made.parts
    assert [inputs_of(folder, part) for part in made.parts] == [PATHS[:4], PATHS[4:8], PATHS[8:]]
    for part in reversed(made.parts):
        assert made.finish() is None
        write(folder, part)
    done = made.finish()
    assert done is not None and (done.rows, done.failed) == (10, 1)
    assert [row["path"] for row in rows_of(folder, done.parts)] == PATHS
    with folder.read("manifest.json") as file:
        listed = json.load(file)["parts"]
    assert [(part["rows"], part["failed"]) for part in listed] == [(4, 1), (4, 0), (2, 0)]


def test_finished_parts_are_kept_and_stale_ones_go(folder: Folder) -> None:
    first = job(folder)
    write(folder, first.parts[0])
    write(folder, first.parts[2])
    again = job(folder, [*PATHS, "new.wav"])  # the last part has other inputs now
    assert [part.name for part in again.todo] == [again.parts[1].name, again.parts[2].name]
    assert again.parts[2].name != first.parts[2].name
    for part in again.todo:
        write(folder, part)
    assert again.finish() is not None
    assert {n for n in folder.names() if n.endswith(".parquet")} == {p.name for p in again.parts}


def test_other_settings_are_refused(folder: Folder) -> None:
    job(folder)
    with pytest.raises(ConfigError, match=r"another model \('tiny'\)"):
        Job(folder, settings={"model": "other"}, inputs=PATHS, part_clips=4)
    with pytest.raises(ConfigError, match="another part_clips"):
        Job(folder, settings={"model": "tiny"}, inputs=PATHS, part_clips=5)


def test_shards_share_the_parts_and_refuse_other_inputs(folder: Folder) -> None:
    shares = [job(folder, shard=Shard(n, 2)).todo for n in (1, 2)]
    assert [len(share) for share in shares] == [2, 1]
    assert {p.name for share in shares for p in share} == {p.name for p in job(folder).parts}
    with pytest.raises(ConfigError, match="not those of the other shards"):
        job(folder, PATHS[:-1], shard=Shard(2, 2))
    assert [inputs_of(folder, part) for part in shares[1]] == [PATHS[4:8]]  # still the first ones


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "-1/2", "1/2/3"])
def test_a_bad_shard_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^Bad --shard .* such as 3/8\.$"):
        Shard.parse(text)


def test_a_file_that_fails_half_way_leaves_nothing(folder: Folder) -> None:
    with pytest.raises(KeyError), folder.write("half") as file:
        file.write(b"x")
        raise KeyError("stop")
    assert folder.names() == set()


def test_a_damaged_part_is_one_sentence(folder: Folder) -> None:
    made = job(folder)
    for part in made.parts:
        with folder.write(part.name) as file:
            file.write(b"PAR1 and nothing")
    with pytest.raises(ConfigError, match=r"^Bad part .*: it is damaged; remove it"):
        made.finish()


def test_recorded_parts_are_not_read_again(folder: Folder) -> None:
    made = job(folder)
    for part in made.parts[:2]:
        with folder.write(part.name) as file:
            file.write(b"not read")
        made.record(part.name, rows=4, failed=1)
    write(folder, made.parts[2])
    done = made.finish()
    assert done is not None and (done.rows, done.failed) == (10, 2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_disk_and_a_missing_package_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"No space left.*what is finished is kept"):
        with Folder("/dev").write("full") as file:
            file.write(b"x" * 100_000)
    with pytest.raises(StorageError, match="Can't open nosuch://x: Protocol not known"):
        Folder("nosuch://x")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Can't write"):
        with Folder(tmp_path / "file").write("x"):
            pass
