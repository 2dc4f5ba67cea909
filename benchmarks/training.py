"""Training speed: prepared clips against decoding each, memory kept against given back.

A real training by the Trainer: forward, backward, clipping, optimiser, schedule and weight
averaging, with the settings and the precision of ``configs/model/audio_crnn.yaml``. One training
takes its epochs from the cache and from the files in turn, so that both meet the same moments.
The allocator's setting can't be undone, so each setting is a process of its own, in turn too.
"""

import argparse
import json
import logging
import os
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import Callback, Trainer
from torch.utils.data import DataLoader

from avser.data.dataset import ClipDataset, Item
from avser.data.splits.speaker_dependent import Resubstitution
from avser.datamodules.clips import ClipDataModule
from avser.media.reader import read_audio
from avser.models.factory import build
from avser.models.heads import Head
from avser.training.augment import Augment
from avser.training.fit import keep_memory
from avser.training.task import EmotionTask
from avser.types import Clip, Corpus
from benchmarks.material import EMOTIONS, parameters, settings, untrained, write_clips
from benchmarks.measure import Goal, Report, Row, child

FULL = {"clips": 256, "epochs": 3, "repeats": 3}
QUICK = {"clips": 64, "epochs": 1, "repeats": 1}
SOURCES = ("cache", "files")


class Takes(Corpus):
    """The clips that `benchmarks.material.write_clips` wrote."""

    name, title, licence, url, citation = "takes", "Takes", "none", "", ""

    def clips(self) -> list[Clip]:
        """See `Corpus.clips`."""
        return [
            Clip(
                path=path,
                clip_id=path.stem,
                emotion=path.stem.partition("-")[2],
                speaker=f"takes/{int(path.stem[:4]) % 24}",
                corpus=self.name,
            )
            for path in sorted(self.root.glob("*.wav"))
        ]


class Undecoded(Sequence[NDArray[np.int16]]):
    """Samples of clips that are decoded each time they are asked for."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips = list(clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> NDArray[np.int16]:  # type: ignore[override]
        samples = read_audio(self.clips[index].path)
        return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


class AlternatingData(ClipDataModule):
    """Training epochs from the cache and from the files in turn, beginning with the cache."""

    def dataset(self, clips: Sequence[Clip], *, training: bool = False) -> ClipDataset:
        """See `ClipDataModule.dataset`."""
        result = super().dataset(clips, training=training)
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        if SOURCES[epoch % 2] == "cache":
            return result
        return ClipDataset(
            result.clips,
            waves=Undecoded(result.clips),
            index=range(len(result)),
            labels=result.labels,
            trim=self.trim,
            crop_s=self.crop_s,
        )

    def val_dataloader(self) -> DataLoader[Item] | list[Any]:  # type: ignore[override]
        """Nothing: only training is measured."""
        return []


class EpochClock(Callback):
    """Seconds from the end of an epoch to the end of the next, so that nothing falls between."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_epoch_end(self, *_: object) -> None:
        """Take the time."""
        self.ends.append(time.perf_counter())

    def seconds(self) -> dict[str, list[float]]:
        """Seconds by source, without the first epoch of each."""
        passed = np.diff(self.ends)[1:]  # epoch 0 has no beginning; epoch 1 warms the files up
        return {SOURCES[i % 2]: passed[i::2].tolist() for i in range(2)}


def train(folder: Path, *, epochs: int) -> dict[str, Any]:
    """Train on a folder's clips; return clips per second of each epoch, by source, and the size.

    Args:
        folder: of wav files; the cache is at ``AVSER_CACHE``.
        epochs: timed from each source; two more run untimed.
    """
    chosen = settings("audio_crnn")
    net = untrained("audio_crnn")
    model = {k: v for k, v in chosen["model"].items() if k not in ("audio", "head", "augment")}
    task = EmotionTask(
        audio=net.audio,
        head=build(chosen["model"]["head"], Head),
        augment=build(chosen["model"]["augment"], Augment),
        emotions=EMOTIONS,
        **model,
    )
    data = AlternatingData(Takes(folder), Resubstitution())
    clock = EpochClock()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2 + 2 * epochs,
        precision=chosen["trainer"]["precision"],
        gradient_clip_val=chosen["trainer"]["gradient_clip_val"],
        reload_dataloaders_every_n_epochs=1,
        callbacks=[clock],
        **dict.fromkeys(
            ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
        ),
    )
    trainer.fit(task, data)
    size = len(data.parts.train) // data.batch_size * data.batch_size or len(data.parts.train)
    rates = {name: [size / s for s in result] for name, result in clock.seconds().items()}
    return {**rates, "parameters": parameters(task.net)}


def measure(*, clips: int, epochs: int, repeats: int, count: int | None = None) -> Report:
    """Train in child processes, with and without kept memory in turn."""
    count = count or min(2, os.cpu_count() or 1)
    actual: dict[str, list[Mapping[str, Any]]] = {"keep": [], "give": []}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_clips(folder / "clips", clips)
        for _ in range(repeats):
            for memory, results in actual.items():
                results.append(
                    child(
                        "training",
                        folder / "clips",
                        f"--epochs={epochs}",
                        *(["--keep"] if memory == "keep" else []),
                        count=count,
                        environment={"AVSER_CACHE": str(folder / "cache")},
                    )
                )
    rates = {
        (memory, source): statistics.median(r for result in results for r in result[source])
        for memory, results in actual.items()
        for source in SOURCES
    }
    chosen = settings("audio_crnn")["trainer"]["precision"]
    return Report(
        "training: clips a second",
        f"{clips} wav files of 3 to 4 s at 48 kHz, half of it voice (the rest is trimmed in "
        f"training); {actual['keep'][0]['parameters']} parameters, {chosen}; {count} thread(s) "
        f"each; median of {repeats} processes × {epochs} epochs",
        rows(rates),
    )


def rows(rates: Mapping[tuple[str, str], float]) -> list[Row]:
    """Compare; ``rates`` are clips/s by memory (keep, give) and source (cache, files)."""
    return [
        Row(
            ours="from the cache, memory kept",
            value=rates["keep", "cache"],
            unit="clips/s",
            alternative="decoding each file, memory kept",
            other=rates["keep", "files"],
            more_is_better=True,
            goal=Goal("at least", 150),
        ),
        Row(
            ours="from the cache, memory kept",
            value=rates["keep", "cache"],
            unit="clips/s",
            alternative="from the cache, memory given back",
            other=rates["give", "cache"],
            more_is_better=True,
        ),
        Row(
            ours="from the cache, memory kept",
            value=rates["keep", "cache"],
            unit="clips/s",
            alternative="decoding each file, memory given back",
            other=rates["give", "files"],
            more_is_better=True,
        ),
    ]


def main() -> None:
    """Train in this process and print what `train` returns."""
    parser = argparse.ArgumentParser(description="One training, timed.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--keep", action="store_true", help="keep freed memory")
    own = parser.parse_args()
    warnings.filterwarnings("ignore")  # Lightning's advice on loggers and workers
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    if own.keep:
        keep_memory()
    print(json.dumps(train(own.folder, epochs=own.epochs)))


if __name__ == "__main__":
    main()
