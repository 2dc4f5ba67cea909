from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from avser.cli import main
from avser.data.audio_cache import prepare
from avser.data.content import cache_folder
from avser.data.rows import clip_from_dict, clip_to_dict
from avser.datamodules.corpora.ravdess import Ravdess
from avser.distributed import tasks
from avser.distributed.engine import Cluster, local
from avser.errors import AvserError
from avser.testing.corpora.ravdess import fake_ravdess
from avser.training import crossval
from avser.training.crossval import FitJob
from avser.training.fit_processes import FitProcesses
from avser.types import Clip


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of a cluster, run here one after another, last item first."""

    def engine(
        worker: str, settings: Mapping[str, Any], items: Sequence[Any], *, cluster: Cluster
    ) -> Any:
        return local(worker, settings, list(reversed(items)))

    monkeypatch.setattr(tasks, "on_ray", engine)


def test_a_clip_survives_the_way_to_another_process() -> None:
    clip = Clip(path=Path("a.wav"), clip_id="1", emotion=None, speaker="x/1", corpus="x",
                video=Path("b.mp4"), start_s=1.5, attributes={"take": "2"})  # fmt: skip
    assert clip_from_dict(clip_to_dict(clip)) == clip


def test_the_cache_is_filled_by_workers(
    tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = Ravdess(fake_ravdess(tmp_path / "ravdess", speakers=2, per_emotion=1)).clips()
    clips[0].path.write_bytes(b"damaged")
    monkeypatch.setattr(tasks, "_CHUNK", 3)
    seen: list[tuple[int, int]] = []
    tasks.prepare_on_ray(clips, cluster=Cluster(), progress=lambda *at: seen.append(at))
    assert seen[-1] == (len(clips), len(clips)) and len(seen) == -(-len(clips) // 3)
    decoded: list[int] = []
    prepared = prepare(clips, folder=cache_folder(), progress=lambda d, _: decoded.append(d))
    assert len(prepared.clips) == len(clips) - 1
    assert decoded == [1]  # the damaged one alone was tried again


def test_workers_write_the_shards_of_one_process(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fake_ravdess(tmp_path / "ravdess", speakers=5, per_emotion=1)
    words = ["prepare", "-c", "configs/data/ravdess.yaml", f"--data.corpus.init_args.root={root}"]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert main([*words, "--shards", str(theirs)]) == 0
    assert main([*words, "--engine", "ray", "--shards", str(ours)]) == 0
    names = {path.name for path in theirs.iterdir()}
    assert len(names) == 2 and names == {path.name for path in ours.iterdir()}
    assert all((ours / name).read_bytes() == (theirs / name).read_bytes() for name in names)
    assert main([*words, "--engine", "ray", "--shards", str(ours)]) == 0
    assert "in 1 shards in" in capsys.readouterr().out.splitlines()[-1]


def test_folds_go_to_workers_and_come_back(
    tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(self: FitProcesses, words: Sequence[str], folder: Path) -> str | None:
        assert words[:1] == ["-c"]
        if "--data.split.init_args.fold=1" in words:
            return "too few clips"
        (folder / "predictions").mkdir(parents=True)
        (folder / "predictions/test.json").touch()
        (folder / "results.json").write_text('{"uar": 0.5}')
        (folder / "DONE").touch()
        return None

    monkeypatch.setattr(FitProcesses, "fit", fit)
    folds = crossval.plan(tmp_path / "run", folds=3, seeds=[0])
    done: list[int] = []
    with pytest.raises(AvserError, match=r"fold1 \(1 of 3 failed\): too few clips"):
        crossval.run(
            folds,
            words=["-c"],
            has_folds=True,
            run_jobs=tasks.fit_on_ray(Cluster(cpus=2)),
            finished=lambda fold, summary: done.append(fold.fold),
        )
    assert done == [2, 0] and [fold.done for fold in folds] == [True, False, True]


def test_trainings_here_end_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossval.FitProcesses, "fit", lambda self, words, folder: words[0])
    jobs = [FitJob((name,), tmp_path / name) for name in "abc"]
    assert sorted(crossval.run_here(jobs, at_once=2)) == [(0, "a"), (1, "b"), (2, "c")]
