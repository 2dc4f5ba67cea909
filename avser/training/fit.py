"""One training from start to bundle and report; an interrupted one is resumed.

A run folder holds ``config.yaml``, ``checkpoints/``, ``logs/`` (CSV and TensorBoard),
``predictions/<part>.json``, ``results.json``, ``report.html``, ``tables/``, ``bundle/``, and
``DONE`` when it is finished.
"""

import ctypes
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from avser.bundle import serialization as bundle
from avser.bundle.provenance import speakers_by_sex
from avser.data.splits import clip_name
from avser.errors import ConfigError
from avser.evaluation.calibration import calibrate
from avser.evaluation.predict import by_clip, predict
from avser.evaluation.predictions import file_name
from avser.evaluation.stress import stress
from avser.evaluation.summary import Predictions, stream_figures, summarise
from avser.files import atomic_write, exclusive
from avser.models.net import EmotionNet
from avser.training.baselines import fit_baselines, has_baseline
from avser.training.data_module import LabelledDataModule
from avser.training.run_folder import STOP, commit_of, epoch_tables, history
from avser.training.task import EmotionTask

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # settings of glibc's mallopt
_KEEP = 1 << 30


def keep_memory() -> bool:
    """Make glibc keep up to 1 GiB of freed memory; return whether it accepted that.

    By default glibc returns large freed blocks to the system and requests them again in the next
    training step, and the kernel clears their pages each time. ``make bench`` measures what keeping
    them saves. It does nothing on systems without glibc. Only trainings call it, so that other
    processes still return their memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, _KEEP))
    except (OSError, AttributeError):
        return False


class StopFile(Callback):
    """Ends a training after the epoch in which a file appears; the bundle is still written.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See Lightning."""
        if self._path.exists():
            trainer.should_stop = True


def callbacks(folder: Path, *, patience: int | None) -> list[Callback]:
    """Keep the best epoch by validation score and the last one; stop early where asked."""
    place = folder / "checkpoints"
    best = ModelCheckpoint(
        dirpath=place,
        filename="best",
        monitor="validation/score",
        mode="max",
        enable_version_counter=False,
    )
    # after every epoch: Lightning's own save_last saves only after an improvement
    last = ModelCheckpoint(dirpath=place, filename="last", enable_version_counter=False)
    chosen: list[Callback] = [best, last, StopFile(folder / STOP)]
    if patience is not None and patience < 0:
        raise ConfigError(f"Bad --patience {patience}: legal is 0 epochs or more.")
    if patience is not None:
        chosen.append(EarlyStopping("validation/score", mode="max", patience=patience))
    return chosen


def loggers(folder: Path) -> list[Logger]:
    """CSV logger for the report, and TensorBoard logger.

    Every start of a training has its own table, ``logs/start<N>/metrics.csv``, since Lightning
    would overwrite the old one. `history` reads all of them.
    """
    start = 1 + len(epoch_tables(folder))
    return [
        CSVLogger(folder, name=f"logs/start{start}", version=""),
        TensorBoardLogger(folder, name="logs", version=""),
    ]


@contextmanager
def claimed_run_folder(folder: Path, *, overwrite: bool) -> Iterator[Path | None]:
    """Create or reuse a run folder, and keep other processes out of it until the block ends.

    Yields:
        The checkpoint to resume from, or None.

    Raises:
        ConfigError: it is finished, or holds something else.
        StorageError: another process trains in it.
    """
    first = getattr(rank_zero_only, "rank", 0) == 0  # other processes of it run the same command
    if first and folder.is_dir():
        with exclusive(folder):
            resume = _claim(folder, overwrite=overwrite, first=first)
    else:
        resume = _claim(folder, overwrite=overwrite, first=first)
    with exclusive(folder) if first else nullcontext():
        yield resume


def _claim(folder: Path, *, overwrite: bool, first: bool) -> Path | None:
    is_run = any((folder / name).exists() for name in ("DONE", "logs", "checkpoints"))
    if overwrite and first and (folder / "config.yaml").exists() and is_run:
        shutil.rmtree(folder)
    if (folder / "DONE").exists():
        raise ConfigError(
            f"Bad run folder {folder}: it is finished; choose another --out, or give --overwrite."
        )
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.yaml").exists():
        raise ConfigError(
            f"Bad run folder {folder}: it is not a run and not empty; choose another."
        )
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "checkpoints" / "last.ckpt"
    return last if last.exists() else None


def fit(
    trainer: Trainer,
    task: EmotionTask,
    data: LabelledDataModule,
    *,
    folder: Path,
    resume: Path | None,
    spec: Mapping[str, Any],
    name: str,
    seed: int | None,
    config_text: str,
    measure: bool = True,
    stressed: bool = False,
    figures: Sequence[str] = (),
) -> dict[str, Any] | None:
    """Train, calibrate, save ``folder/bundle``, and evaluate on the test part.

    Args:
        trainer: with `callbacks` of the folder; gets its `loggers`.
        task: to train.
        data: clips and their split.
        folder: of the run, from `claimed_run_folder`.
        resume: checkpoint of an unfinished run, or None.
        spec: settings of the net's slots, for the bundle.
        name: of the model.
        seed: of the training.
        config_text: the resolved configuration, for the report.
        measure: evaluate on the test part; False does not use it.
        stressed: evaluate on the degraded test part, too.
        figures: file formats of the report's figures.

    Returns:
        The summary of the test part, or None where there is none.
    """
    keep_memory()
    trainer.loggers = [*loggers(folder), *trainer.loggers]
    trained = _train(trainer, task, data, folder=folder, resume=resume)
    if trained is None:  # only the first process continues
        return None
    net, epochs, seconds = trained
    calibrate(net, data.loader(data.parts.validation), keep=task.kept)
    validation = _validate(net, data, folder)
    provenance = _provenance(data, seed=seed, epochs=epochs, before=task.started_from)
    summary = None
    if data.parts.test and measure:
        made = _measure(net, data, provenance, folder=folder, name=name, stressed=stressed)
        predictions, summary = made
    card = bundle.card_figures(summary)
    saved = bundle.save(
        net, folder / "bundle", spec=spec, name=name, provenance=provenance, figures=card
    )
    if summary is not None:
        if epochs < (task.full_epochs or 0):
            summary["notes"].append(f"a shortened recipe: {epochs} of {task.full_epochs} epochs")
        summary["cost"] |= {"minutes": round(seconds / 60, 2), "bytes": bundle.size_of(saved)}
        parts = (predictions, data, config_text)
        _report(folder, summary, *parts, validation=validation, figures=figures)
    with atomic_write(folder / "DONE") as file:
        file.write(f"{epochs} epochs\n")
    return summary


def _check_trainer(trainer: Trainer) -> None:
    """Refuse trainers that would train nothing, or without end."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    if epochs == 0 or (epochs == -1 and steps == -1):
        raise ConfigError(f"Bad trainer.max_epochs {epochs}: legal is 1 or more.")
    if trainer.accumulate_grad_batches < 1:
        raise ConfigError(
            f"Bad trainer.accumulate_grad_batches {trainer.accumulate_grad_batches}: legal is 1 or "
            "more."
        )


def _train(
    trainer: Trainer,
    task: EmotionTask,
    data: LabelledDataModule,
    *,
    folder: Path,
    resume: Path | None,
) -> tuple[EmotionNet, int, float] | None:
    """Train, or fit baselines in one pass; return net, epochs, and seconds of all starts.

    Other processes than the first return None.
    """
    begin = perf_counter()
    if has_baseline(task.net):
        if not trainer.is_global_zero:
            return None
        task.prepare(data)
        net = fit_baselines(task.net, data.views_loader(data.parts.train))
        return net, 1, perf_counter() - begin
    _check_trainer(trainer)
    trainer.fit(task, data, ckpt_path=resume, weights_only=True if resume else None)
    if not trainer.is_global_zero:
        return None
    seconds = sum(history(folder).get("train/seconds", []))
    return best_net(task, folder), int(trainer.current_epoch), seconds


def _validate(net: EmotionNet, data: LabelledDataModule, folder: Path) -> Predictions:
    """Predict the validation part with the chosen epoch, and save the predictions."""
    clips = data.parts.validation
    predictions = predict(net, data.loader(clips), clips, seen=set())
    predictions.save(folder / "predictions" / "validation.json")
    return predictions


def _measure(
    net: EmotionNet,
    data: LabelledDataModule,
    provenance: bundle.Provenance,
    *,
    folder: Path,
    name: str,
    stressed: bool,
) -> tuple[Predictions, dict[str, Any]]:
    """Predict the test part, save the predictions, and summarise them."""
    test, seen = data.parts.test, set(provenance.speakers)
    begin = perf_counter()
    predictions = predict(net, data.loader(test), test, seen=seen)
    rate = len(test) / (perf_counter() - begin)
    predictions.save(folder / "predictions" / "test.json")
    summary = _summary(predictions, data, provenance, net, name)
    summary["cost"] = {"clips_per_second": round(rate, 1), "threads": torch.get_num_threads()}
    if net.fusion is not None:  # each stream as where the other is missing
        alone = {}
        for stream in ("audio", "video"):
            single = predict(net, data.loader(test), test, seen=seen, stream=stream)
            single.save(folder / "predictions" / f"test.{stream}.json")
            alone[stream] = [single]
        summary["streams"] = stream_figures(alone, seeds=summary["seeds"])
    levels = _levels(net, data, predictions, seen=seen)
    for level, rows in levels.items():
        rows.save(folder / "predictions" / f"test.{level}.json")
    if levels:
        runs = {level: [rows] for level, rows in levels.items()}
        summary["levels"] = stream_figures(runs, seeds=summary["seeds"])
    if stressed:
        summary["stress"] = _stress(net, data, provenance, folder)
    return predictions, summary


def _stress(
    net: EmotionNet, data: LabelledDataModule, provenance: bundle.Provenance, folder: Path
) -> dict[str, Any]:
    """Predict degraded test clips, save the predictions, and summarise them."""
    test = data.parts.test
    conditions = stress(net, data.sound_loader(test), test, seen=set(provenance.speakers))
    for name, rows in conditions.items():
        rows.save(folder / "predictions" / f"test.{file_name(name)}.json")
    seed = provenance.seed if provenance.seed is not None else 0
    return stream_figures({name: [rows] for name, rows in conditions.items()}, seeds=[seed])


def _levels(
    net: EmotionNet, data: LabelledDataModule, predictions: Predictions, *, seen: set[str]
) -> dict[str, Predictions]:
    """Predictions per clip if the split's unit is the chunk, and per chunk if it is the clip."""
    if data.split.unit == "chunk":
        return {"clip": by_clip(predictions)}
    if net.video is None and net.audio is not None and net.audio.span == "step":
        test = data.parts.test
        return {"chunk": predict(net, data.loader(test), test, seen=seen, unit="chunk")}
    return {}


def _provenance(
    data: LabelledDataModule, *, seed: int | None, epochs: int, before: Sequence[bundle.Provenance]
) -> bundle.Provenance:
    """Recordings of this training, and of those whose weights it started from."""
    known = [*data.parts.train, *data.parts.validation]
    speakers = sorted({c.speaker for c in known if c.speaker}.union(*(p.speakers for p in before)))
    languages = dict.fromkeys(data.corpus.languages)
    return bundle.Provenance(
        sexes=speakers_by_sex(known, speakers),
        languages=[*(languages | dict.fromkeys(x for p in before for x in p.languages))],
        corpora=sorted({c.corpus for c in known}.union(*(p.corpora for p in before))),
        speakers=speakers,
        digests=sorted(
            {data.digests[clip_name(c)][:16] for c in known}.union(*(p.digests for p in before))
        ),
        label_target=data.corpus.label_target,
        licence="; ".join(
            dict.fromkeys(
                part
                for text in (data.corpus.licence, *(p.licence for p in before))
                for part in text.split("; ")
                if part
            )
        ),
        split=data.split_description,
        split_hash=data.parts.hash,
        merge=dict(data.labels.merge),
        seed=seed,
        epochs=epochs,
        commit=commit_of(Path(__file__).parent),
    )


def best_net(task: EmotionTask, folder: Path) -> EmotionNet:
    """Averaged weights of the epoch with the best validation score, in evaluation mode."""
    path = folder / "checkpoints" / "best.ckpt"
    if not path.exists():
        raise ConfigError(
            f"Bad training {folder}: no epoch was trained and validated, so there is no model; "
            "leave out trainer.fast_dev_run, trainer.limit_train_batches and "
            "trainer.limit_val_batches, and set trainer.check_val_every_n_epoch to no more than "
            "the epochs."
        )
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    own = {k.removeprefix("averaged."): v for k, v in state.items() if k.startswith("averaged.")}
    task.averaged.load_state_dict(own)
    return task.averaged.to("cpu").eval()


def _summary(
    predictions: Predictions,
    data: LabelledDataModule,
    provenance: bundle.Provenance,
    net: EmotionNet,
    name: str,
) -> dict[str, Any]:
    return summarise(
        predictions,
        split=data.split_description,
        corpus=data.corpus.name,
        label_target=data.corpus.label_target,
        split_hash=data.parts.hash,
        model=name,
        parameters=sum(p.numel() for p in net.parameters()),
        seeds=[provenance.seed if provenance.seed is not None else 0],
        epochs=[provenance.epochs or 0],
        commit=provenance.commit,
        notes=[*data.parts.notes, *data.notes],
        marks=data.marks,
    )


def _report(
    folder: Path,
    summary: dict[str, Any],
    predictions: Predictions,
    data: LabelledDataModule,
    config_text: str,
    *,
    validation: Predictions,
    figures: Sequence[str],
) -> None:
    from avser.data.audit import audit
    from avser.evaluation.report import write_report

    write_report(
        folder,
        summary,
        predictions=predictions,
        history=history(folder),
        audit=audit(data.parts, data.digests),
        config_text=config_text,
        validation=validation,
        figures=figures,
    )
