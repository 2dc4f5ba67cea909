"""Shards: what is written is streamed, each clip once, and trains as the cache does."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avser.cli import main
from avser.cli.config import parse_data
from avser.data.face_cache import FaceRow, FaceRows
from avser.data.splits import SpeakerKFold, clip_name
from avser.datamodules.shards import ShardCorpus, ShardedClips
from avser.distributed.folder import Folder
from avser.distributed.shards import (
    StoredClip,
    epoch_batches,
    plan_shards,
    read_index,
    read_run,
    runs_of,
    write_shards,
    writer,
)
from avser.errors import ConfigError, CorpusError
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.media import voice
from avser.types import Clip

WORDS = ["-c", "configs/data/ravdess.yaml"]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    root = fake_ravdess(tmp_path / "ravdess", speakers=6, per_emotion=1)
    return [*WORDS, f"--data.corpus.init_args.root={root}"]


def batches_of(loader: Any) -> dict[str, tuple[torch.Tensor, int]]:
    """Samples and label of each clip that a loader gives."""
    result = {}
    for batch in loader:
        for row, name in enumerate(batch["clip_id"]):
            assert name not in result
            samples = batch["waveform"][row, : batch["lengths"][row]]
            result[name] = samples, int(batch["label"][row])
    return result


def test_shards_give_the_clips_of_the_cache(words: list[str], tmp_path: Path) -> None:
    shards = str(tmp_path / "shards")
    assert main(["prepare", *words, "--shards", shards]) == 0
    cache = parse_data(words)
    stored = parse_data([
        "-c", "configs/data/shards.yaml", f"--data.corpus.init_args.root={shards}",
    ])  # fmt: skip
    assert isinstance(stored, ShardedClips) and stored.corpus.name == "ravdess"
    assert stored.classes == cache.classes and stored.digests == cache.digests
    about, _ = read_index(Folder(shards))
    assert stored.parts.hash == cache.parts.hash == about["split_hash"]
    assert about["audit"]["parts"]["test"]["clips"] == len(cache.parts.test)
    ours, theirs = (batches_of(data.loader(data.parts.test)) for data in (stored, cache))
    assert ours.keys() == theirs.keys()
    for name, (samples, label) in ours.items():
        assert torch.equal(samples, theirs[name][0]) and label == theirs[name][1]


def test_a_training_from_shards_gives_the_figures_of_the_cache(
    words: list[str], tmp_path: Path
) -> None:
    shards = str(tmp_path / "shards")
    assert main(["prepare", *words, "--shards", shards]) == 0
    figures = {}
    for name, data in (("cache", words), ("shards", ["--corpus", "shards", "--root", shards])):
        run = tmp_path / f"run-{name}"
        model = ["-c", "configs/model/svm_mfcc.yaml", "--trainer.accelerator=cpu"]
        assert main(["fit", *data, *model, "--out", str(run)]) == 0
        figures[name] = json.loads((run / "results.json").read_text())
    for key in ("n", "split_hash", "corpus", "label_target"):
        assert figures["shards"][key] == figures["cache"][key]
    assert figures["shards"]["uar"]["value"] == pytest.approx(figures["cache"]["uar"]["value"])


def stored(count: int, *, speakers: int = 5) -> list[StoredClip]:
    clips = [Clip(path=Path(f"{n}.wav"), clip_id=str(n), emotion="sad", corpus="x",
                  speaker=f"x/{n * speakers // count}") for n in range(count)]  # fmt: skip
    return [StoredClip(clip, 100 + n % 7, "", f"shard-{n // 40}", n % 40 * 9, n % 40 * 9 + 9)
            for n, clip in enumerate(clips)]  # fmt: skip


@pytest.mark.parametrize(("count", "lanes", "size"), [(100, 1, 8), (100, 4, 8), (103, 3, 7),
                                                      (9, 4, 32), (1000, 6, 16)])  # fmt: skip
def test_no_clip_is_twice_in_an_epoch_and_lanes_are_equal(
    count: int, lanes: int, size: int
) -> None:
    rows = stored(count)
    plans = epoch_batches(rows, batch_size=size, lanes=lanes, seed=1, epoch=2)
    assert len(plans) == lanes and len({len(plan) for plan in plans}) == 1 and plans[0]
    used = Counter(row.clip.clip_id for plan in plans for batch in plan for row in batch)
    assert max(used.values()) == 1
    assert len({len(batch) for plan in plans for batch in plan}) == 1
    if lanes == 1:
        assert len(used) == count // size * size
    assert len(used) >= 0.6 * count
    again = epoch_batches(rows, batch_size=size, lanes=lanes, seed=1, epoch=2)
    assert again == plans
    assert epoch_batches(rows, batch_size=size, lanes=lanes, seed=1, epoch=3) != plans
    assert epoch_batches(rows, batch_size=size, lanes=lanes, seed=2, epoch=2) != plans


def test_a_batch_mixes_speakers() -> None:
    (plan,) = epoch_batches(stored(400), batch_size=16, lanes=1, seed=0, epoch=0)
    mixed = [len({row.clip.speaker for row in batch}) for batch in plan]
    assert np.mean(mixed) > 3


def test_runs_are_near_each_other_and_of_one_speaker() -> None:
    rows = stored(100)
    runs = runs_of(reversed(rows), most=16)
    assert [row for run in runs for row in run] == rows
    assert all(len({(r.shard, r.clip.speaker) for r in run}) == 1 for run in runs)
    assert max(map(len, runs)) == 16
    assert len(runs_of(rows[::2])) == len(runs_of(rows))  # every other clip: still one piece


@pytest.fixture
def bucket(tmp_path: Path) -> ShardCorpus:
    """Twelve clips in a store, in shards of three, every other one with faces."""
    clips = [Clip(path=Path("x.wav"), clip_id=f"{n:02}", emotion=("sad", "happy")[n % 2],
                  speaker=f"x/{n // 2}", corpus="x") for n in range(12)]  # fmt: skip
    sounds = [
        np.rint(voice("sad", seconds=0.6, seed=n) * 32767).astype(np.int16) for n in range(12)
    ]
    faces = []
    for n in range(12):
        path = tmp_path / f"{n}.npz"
        np.savez(path, places=np.array([0, 1]), crops=np.full((2, 8, 8, 3), n, np.uint8))
        faces.append(FaceRow(path if n % 2 else None, 8))
    place = f"memory://{tmp_path.name}/shards"
    about = {"corpus": "x", "licence": "", "languages": ["German"], "label_target": "acted",
             "notes": ["a note"]}  # fmt: skip
    digests = {clip_name(clip): str(n) for n, clip in enumerate(clips)}
    plans = plan_shards(clips, lengths=[len(s) for s in sounds], digests=digests,
                        faces=FaceRows(faces, {}), shard_bytes=70_000)  # fmt: skip
    folder = Folder(place)
    run = writer(folder, clips, sounds, faces=tmp_path)
    count = write_shards(folder, plans, about=about, face_size=8, run=run)
    assert count == len([n for n in folder.names() if n.endswith(".tar")]) > 2
    return ShardCorpus(place)


def test_an_interrupted_writing_goes_on(bucket: ShardCorpus, tmp_path: Path) -> None:
    clips, folder = bucket.clips(), Folder(tmp_path / "shards")
    sounds = [np.full(9_000 + n, n, np.int16) for n in range(12)]
    digests = {clip_name(clip): str(n) for n, clip in enumerate(clips)}
    sizes = [len(samples) for samples in sounds]
    plans = plan_shards(clips, lengths=sizes, digests=digests, shard_bytes=50_000)
    write = writer(folder, clips, sounds, faces=tmp_path)
    about = {"corpus": "x"}

    def killed(todo: Any) -> Any:
        yield from write(todo[:2])
        with folder.write(todo[2].name) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shard-000000.tar").write_bytes(b"of another corpus")
    with pytest.raises(KeyboardInterrupt):
        write_shards(folder, plans, about=about, run=killed)
    with pytest.raises(CorpusError):  # half a corpus is none
        read_index(folder)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shards/shard-*-*.tar")}
    assert len(kept) == 2 < len(plans)
    seen: list[tuple[int, int]] = []
    written = write_shards(
        folder, plans, about=about, run=write, progress=lambda *at: seen.append(at)
    )
    assert written == len(plans) - 2 and seen[-1] == (12, 12)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert folder.names() == {"index.jsonl", *(plan.name for plan in plans)}
    _, rows = read_index(folder)
    stored = {r.clip.clip_id: c.samples for run in runs_of(rows) for r, c in
              zip(run, read_run(folder, run), strict=True)}  # fmt: skip
    assert all(np.array_equal(stored[c.clip_id], s) for c, s in zip(clips, sounds, strict=True))
    # other sound under the same names is written anew
    others = dict.fromkeys(digests, "x")
    other = plan_shards(clips, lengths=sizes, digests=others, shard_bytes=50_000)
    assert not {plan.name for plan in other} & {plan.name for plan in plans}


@pytest.mark.parametrize("workers", [0, 2])
def test_faces_and_every_epoch_are_streamed_from_a_bucket(
    bucket: ShardCorpus, workers: int
) -> None:
    data = ShardedClips(bucket, SpeakerKFold(folds=3), video="faces", batch_size=2, workers=workers)
    assert bucket.languages == ("German",) and bucket.notes == ["a note"]
    loader = data.train_dataloader()
    epochs = [[batch["clip_id"] for batch in loader] for _ in range(2)]
    assert epochs[0] != epochs[1] and len(loader) == len(epochs[0])
    for epoch in epochs:
        assert len({name for batch in epoch for name in batch}) == sum(map(len, epoch))
    for batch in data.loader(data.rows):
        for name, faces, mask in zip(
            batch["clip_id"], batch["faces"], batch["face_mask"], strict=True
        ):
            number = int(name.removeprefix("x/"))
            assert int(mask.sum()) == (2 if number % 2 else 0)
            assert int(faces.max()) == (number if number % 2 else 0)


def test_two_ranks_share_an_epoch(bucket: ShardCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    for rank in range(2):
        data = ShardedClips(bucket, SpeakerKFold(folds=3), batch_size=1)
        monkeypatch.setattr(ShardedClips, "place", (rank, 2))
        seen.append({name for batch in data.train_dataloader() for name in batch["clip_id"]})
    assert seen[0] and len(seen[0]) == len(seen[1]) and not seen[0] & seen[1]


def test_what_shards_lack_is_one_sentence(bucket: ShardCorpus, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"^Bad shards .*: no index of avser is there"):
        ShardCorpus(str(tmp_path))
    bucket.face_size = None
    with pytest.raises(ConfigError, match="hold no faces"):
        ShardedClips(bucket, SpeakerKFold(), video="faces")
    with bucket.folder.write(bucket.stored[0].shard) as file:
        file.write(b"x" * 100_000)
    data = ShardedClips(bucket, SpeakerKFold(folds=3))
    with pytest.raises(CorpusError, match=r"^Bad shard .*: x/\d+ is not where its index says"):
        list(data.loader(data.rows))
