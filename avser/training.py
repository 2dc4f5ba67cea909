"""One training from start to released bundle; resumable at every point.

A run folder holds ``config.yaml``, ``checkpoints/``, ``logs/`` (CSV and TensorBoard),
``outcomes/<part>.json``, ``results.json``, ``report.html``, ``bundle/``, and at its end ``DONE``.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from csv import DictReader
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from pytorch_lightning import Callback, LightningDataModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from avser import bundle
from avser.answers import answers, by_clip, calibrate
from avser.emotions import Labels
from avser.errors import ConfigError
from avser.evaluation import Outcomes, stream_figures, summarise
from avser.files import atomic_write
from avser.fitting import fit_baselines, has_baseline
from avser.net import EmotionNet
from avser.protocols import Parts, clip_name
from avser.protocols import Protocol as SplitProtocol
from avser.task import EmotionTask
from avser.types import Clip, Corpus


class ClipData(Protocol):
    """What training needs of a data module."""

    corpus: Corpus
    protocol: SplitProtocol
    labels: Labels

    @property
    def parts(self) -> Parts:
        """The split."""

    @property
    def notes(self) -> list[str]:
        """What tables must say of the data beside the split."""

    @property
    def marks(self) -> list[str]:
        """Loud marks of tables."""

    @property
    def digests(self) -> Mapping[str, str]:
        """`clip_name` to hash of the decoded samples."""

    def loader(self, clips: Sequence[Clip]) -> Any:  # noqa: ANN401
        """Batches of given clips, whole and unchanged."""


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
    # every epoch, whatever its score: Lightning's own save_last waits for a better one
    last = ModelCheckpoint(dirpath=place, filename="last", enable_version_counter=False)
    chosen: list[Callback] = [best, last]
    if patience is not None:
        chosen.append(EarlyStopping("validation/score", mode="max", patience=patience))
    return chosen


def loggers(folder: Path) -> list[Logger]:
    """CSV for the report and TensorBoard for watching.

    A training that goes on gets a table of its own, ``logs/start<N>/metrics.csv``: Lightning would
    begin an old one anew. `history` reads them all.
    """
    start = 1 + len(_tables(folder))
    return [
        CSVLogger(folder, name=f"logs/start{start}", version=""),
        TensorBoardLogger(folder, name="logs", version=""),
    ]


def claim(folder: Path, *, overwrite: bool) -> Path | None:
    """Make a run folder ours; return the checkpoint to resume from, if it is unfinished.

    Raises:
        ConfigError: it is finished, or holds something else.
    """
    first = getattr(rank_zero_only, "rank", 0) == 0  # processes that it starts run the same command
    traces = [(folder / name).exists() for name in ("DONE", "logs", "checkpoints")]
    if overwrite and first and (folder / "config.yaml").exists() and any(traces):
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


def commit_of(folder: Path) -> str | None:
    """Commit of a checkout, with ``+`` if it was changed; None outside of one."""
    try:
        show = ["git", "-C", str(folder), "describe", "--always", "--exclude=*", "--dirty=+"]
        return subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def fit(
    trainer: Trainer,
    task: EmotionTask,
    data: LightningDataModule,
    *,
    folder: Path,
    resume: Path | None,
    spec: Mapping[str, Any],
    name: str,
    seed: int | None,
    config_text: str,
    measure: bool = True,
) -> dict[str, Any] | None:
    """Train, calibrate, release into ``folder/bundle``, and measure the test part.

    A net whose heads are baselines is fitted in one pass, which counts as one epoch.

    Args:
        trainer: with `callbacks` and `loggers` of the folder.
        task: to train.
        data: a data module as `ClipData` says.
        folder: of the run, claimed.
        resume: checkpoint of an unfinished run, or None.
        spec: settings of the net's slots, for the bundle.
        name: of the model.
        seed: of the training.
        config_text: the resolved configuration, for the report.
        measure: also the test part; without it, nothing of that part is looked at.

    Returns:
        The summary of the test part, or None where there is none.
    """
    clips = cast(ClipData, data)
    if has_baseline(task.net):
        if not trainer.is_global_zero:
            return None
        task.prepare(clips)
        net, epochs = fit_baselines(task.net, clips.loader(clips.parts.train)), 1
    else:
        trainer.fit(task, data, ckpt_path=resume, weights_only=True if resume else None)
        if not trainer.is_global_zero:
            return None
        net, epochs = best_net(task, folder), int(trainer.current_epoch)
    calibrate(net, clips.loader(clips.parts.validation))
    _validate(net, clips, folder)
    provenance = _provenance(clips, seed=seed, epochs=epochs, before=task.started_from)
    summary = None
    if clips.parts.test and measure:
        summary = _measure(net, clips, provenance, folder=folder, name=name, text=config_text)
    bundle.save(
        net,
        folder / "bundle",
        spec=spec,
        name=name,
        provenance=provenance,
        figures=bundle.card_figures(summary),
    )
    with atomic_write(folder / "DONE") as file:
        file.write(f"{epochs} epochs\n")
    return summary


def _validate(net: EmotionNet, data: ClipData, folder: Path) -> None:
    """Keep what the chosen epoch answers on the validation part."""
    chosen = data.parts.validation
    found = answers(net, data.loader(chosen), chosen, seen=set())
    found.save(folder / "outcomes" / "validation.json")


def _measure(
    net: EmotionNet,
    data: ClipData,
    provenance: bundle.Provenance,
    *,
    folder: Path,
    name: str,
    text: str,
) -> dict[str, Any]:
    """Answer the test part, keep the outcomes, and write results and report."""
    test, seen = data.parts.test, set(provenance.speakers)
    outcomes = answers(net, data.loader(test), test, seen=seen)
    outcomes.save(folder / "outcomes" / "test.json")
    summary = _summary(outcomes, data, provenance, net, name)
    if net.fusion is not None:  # what each stream says where the other is missing
        alone = {}
        for stream in ("audio", "video"):
            found = answers(net, data.loader(test), test, seen=seen, stream=stream)
            found.save(folder / "outcomes" / f"test.{stream}.json")
            alone[stream] = [found]
        summary["streams"] = stream_figures(alone, seeds=summary["seeds"])
    levels = _levels(net, data, outcomes, seen=seen)
    for level, found in levels.items():
        found.save(folder / "outcomes" / f"test.{level}.json")
    if levels:
        runs = {level: [found] for level, found in levels.items()}
        summary["levels"] = stream_figures(runs, seeds=summary["seeds"])
    _report(folder, summary, outcomes, data, text)
    return summary


def _levels(
    net: EmotionNet, data: ClipData, outcomes: Outcomes, *, seen: set[str]
) -> dict[str, Outcomes]:
    """The other of two levels: clips where the rows are chunks, chunks where they are clips."""
    if data.protocol.unit == "chunk":
        return {"clip": by_clip(outcomes)}
    if net.video is None and net.audio is not None and net.audio.span == "step":
        test = data.parts.test
        return {"chunk": answers(net, data.loader(test), test, seen=seen, unit="chunk")}
    return {}


def _provenance(
    data: ClipData, *, seed: int | None, epochs: int, before: Sequence[bundle.Provenance]
) -> bundle.Provenance:
    """What was seen, by this training and by those whose weights it began with."""
    known = [*data.parts.train, *data.parts.validation]
    return bundle.Provenance(
        corpora=sorted({c.corpus for c in known}.union(*(p.corpora for p in before))),
        speakers=sorted(
            {c.speaker for c in known if c.speaker}.union(*(p.speakers for p in before))
        ),
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
        protocol=data.protocol.describe(),
        split_hash=data.parts.hash,
        merge=dict(data.labels.merge),
        seed=seed,
        epochs=epochs,
        commit=commit_of(Path(__file__).parent),
    )


def best_net(task: EmotionTask, folder: Path) -> EmotionNet:
    """The averaged weights of the epoch that validation chose, in evaluation mode."""
    path = folder / "checkpoints" / "best.ckpt"
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    own = {k.removeprefix("averaged."): v for k, v in state.items() if k.startswith("averaged.")}
    task.averaged.load_state_dict(own)
    return task.averaged.to("cpu").eval()


def _summary(
    outcomes: Outcomes,
    data: ClipData,
    provenance: bundle.Provenance,
    net: EmotionNet,
    name: str,
) -> dict[str, Any]:
    return summarise(
        outcomes,
        protocol=data.protocol.describe(),
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


def _tables(folder: Path) -> list[Path]:
    """Tables of epochs, one for each start of the training, oldest first."""
    found = (folder / "logs").glob("start*/metrics.csv")
    return sorted(found, key=lambda p: int(p.parent.name.removeprefix("start")))


def history(folder: Path) -> dict[str, list[float]]:
    """Training curves of a run: ``train/loss``, ``validation/uar``, ... one value an epoch."""
    curves: dict[str, dict[int, float]] = {}
    for path in _tables(folder):
        with path.open(newline="", encoding="utf-8") as file:
            for row in DictReader(file):
                for key, value in row.items():
                    if value and "/" in key:
                        curves.setdefault(key, {})[int(row["epoch"])] = float(value)
    return {k: [v[e] for e in sorted(v)] for k, v in curves.items()}


def _report(
    folder: Path, summary: dict[str, Any], outcomes: Outcomes, data: ClipData, config_text: str
) -> None:
    from avser.audit import audit
    from avser.report import write_report

    write_report(
        folder,
        summary,
        outcomes=outcomes,
        history=history(folder),
        audit=audit(data.parts, data.digests),
        config_text=config_text,
    )
