"""``avser evaluate``: measure a model on a corpus."""

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avser.cli.config import Parser, parse_data, prepare_data
from avser.errors import ConfigError, SplitError

if TYPE_CHECKING:
    from avser.bundle.serialization import Bundle
    from avser.data.splits import SplitParts
    from avser.evaluation.predictions import Predictions
    from avser.training.data_module import LabelledDataModule
    from avser.types import Clip


def _parser() -> Parser:
    """The command's flags."""
    about = "Measure a model on a corpus. Any setting of the data may follow, as of avser fit."
    parser = Parser("evaluate", about, corpus=False, figures=True)
    parser.add_argument(
        "--model",
        metavar="NAME|DIR",
        action="append",
        help="released model, bundle, or run folder; several: the mean of their probabilities",
    )
    parser.add_argument(
        "--corpus", metavar="NAME", help="instead of -c: a corpus by name, such as ravdess"
    )
    parser.add_argument("--speakers", metavar="A,B", help="test on these speakers alone")
    parser.add_argument(
        "--split",
        choices=("test", "all"),
        help="clips to measure (default: test with -c, all with --corpus)",
    )
    parser.add_argument(
        "--unseen-only", action="store_true", help="leave out speakers of the model's training"
    )
    parser.add_argument("--report", metavar="DIR", type=Path, help="folder of report and results")
    parser.add_argument("--stress", action="store_true", help="measure degraded clips too")
    parser.add_argument("--json", metavar="FILE", help="write the results there; - is stdout")
    return parser


def run(words: Sequence[str]) -> int:
    """Print the figures, and write them where asked."""
    parser = _parser()
    own, rest = parser.split(words)
    if bool(own.config) == bool(own.corpus):
        parser.error("give either -c DATA.yaml or --corpus NAME")
    if own.corpus:
        rest = [w for w in rest if not w.startswith("--data.corpus.init_args.root=")]
        rest += _corpus_words(own.corpus, own.root)
    from rich.console import Console

    from avser.bundle import serialization as bundle
    from avser.evaluation.predict import by_clip
    from avser.evaluation.predictions import Predictions
    from avser.evaluation.report import write_report
    from avser.evaluation.summary import stream_figures
    from avser.evaluation.tables import print_table
    from avser.files import write_json

    models = [bundle.load(name) for name in own.model or [None]]
    data = _data(rest, models)
    prepare_data(data)
    parts, split = _parts(own, data)
    clips = parts.test
    compared = [_compare(model, data, clips) for model in models]
    predictions = Predictions.mean([_predict(data, each) for each in compared])
    if own.unseen_only:
        predictions = predictions.unseen()
    notes = list(dict.fromkeys(note for each in compared for note in each.notes))
    summary = _summary(models, data, predictions, split=split, split_hash=parts.hash, notes=notes)
    if data.split.unit == "chunk" and predictions.clip_ids and split.endswith("test part"):
        summary["levels"] = stream_figures({"clip": [by_clip(predictions)]}, seeds=[])
    console = Console(stderr=own.json == "-")
    if own.stress:
        summary["stress"] = _stress(data, compared, unseen_only=own.unseen_only)
    print_table(summary, console)
    if own.report is not None:
        page = write_report(own.report, summary, predictions=predictions, figures=own.figures or ())
        console.print(f"Report: {page}")
    write_json(own.json, summary)
    return 0


def _corpus_words(name: str, root: str | None) -> list[str]:
    """Settings of a corpus of that name, all clips of which are measured."""
    from importlib import import_module

    from avser.types import ImageCorpus

    corpus = import_module("avser.datamodules.corpora").find_corpus(name)
    images = issubclass(corpus, ImageCorpus)
    words = ["--data=avser.datamodules.images.ImageDataModule"] if images else []
    words += [f"--data.corpus={corpus.__module__}.{corpus.__qualname__}"]
    words += [f"--data.corpus.init_args.root={root}"] if root else []
    return [*words, "--data.split=avser.data.splits.Resubstitution"]


def _data(words: Sequence[str], models: "Sequence[Bundle]") -> "LabelledDataModule":
    """Build the data, with the classes and the video that the models were trained on.

    Raises:
        ConfigError: the models of an ensemble need different settings.
    """
    data = parse_data(words)
    needed = [w for m in models for w in (*_label_words(m, words), *_video_words(m, words, data))]
    needed = list(dict.fromkeys(needed))
    keys = [w.partition("=")[0] for w in needed]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise ConfigError(
            f"Bad ensemble: its models need different {twice[0]}; set it on the command line."
        )
    return parse_data([*words, *needed]) if needed else data


def _video_words(model: "Bundle", words: Sequence[str], data: "LabelledDataModule") -> list[str]:
    """Setting of the video that the model's encoder reads, unless the command has one."""
    from avser.models.encoders.features import FeatureVideoEncoder
    from avser.types import ImageCorpus

    video = model.net.video
    images = isinstance(data.corpus, ImageCorpus)
    if video is None or images or any(w.startswith("--data.video") for w in words):
        return []
    return [f"--data.video={'features' if isinstance(video, FeatureVideoEncoder) else 'faces'}"]


def _label_words(model: "Bundle", words: Sequence[str]) -> list[str]:
    """Merge the corpus's classes as the model's were, unless the command has a merge."""
    merge = dict(model.provenance.merge)
    if any(w.startswith("--data.merge") for w in words):
        return []
    return [f"--data.merge={json.dumps(merge)}"]


def _parts(own: Namespace, data: "LabelledDataModule") -> tuple["SplitParts", str]:
    """The split whose test part is measured, and its description."""
    from avser.data.splits import SplitParts, find_speaker

    everything = list(data.prepared.clips)
    whole = own.split == "all" or (own.split is None and own.corpus is not None)
    if own.speakers:
        names = {c.speaker for c in everything}
        chosen = {find_speaker(w, names) for w in own.speakers.split(",")}
        rows = [c for c in everything if c.speaker in chosen]
        return SplitParts([], [], rows), f"speakers {own.speakers}"
    if whole:
        return SplitParts([], [], everything), "all clips"
    if not data.parts.test:
        raise SplitError(f"Bad split: {data.split.name} has no test part; use --split all.")
    return data.parts, f"{data.split_description}, test part"


@dataclass(frozen=True)
class _Compared:
    """A model and the clips of a corpus on which it can be measured.

    Attributes:
        model: that is measured.
        clips: whose class the model has.
        classes: that model and corpus share.
        seen: speakers whose recordings the model was trained on.
        notes: classes that are left out.
    """

    model: "Bundle"
    clips: "list[Clip]"
    classes: list[str]
    seen: set[str]
    notes: list[str]


def _compare(model: "Bundle", data: "LabelledDataModule", clips: "Sequence[Clip]") -> _Compared:
    """Select the clips and classes that model and corpus share.

    Raises:
        ConfigError: they share fewer than two classes.
    """
    from avser.data.splits import clip_name

    emotions, provenance = model.net.emotions, model.provenance
    shared = [name for name in data.classes if name in emotions]
    if len(shared) < 2:
        raise ConfigError(
            f"Bad corpus: the model's classes ({', '.join(emotions)}) and the corpus's "
            f"({', '.join(data.classes)}) share fewer than two."
        )
    notes = []
    if lacking := [name for name in data.classes if name not in shared]:
        notes.append(f"classes left out, which the model does not have: {', '.join(lacking)}")
    if unused := [name for name in emotions if name not in shared]:
        notes.append(
            f"the model's classes that are not in the corpus, left out: {', '.join(unused)}"
        )
    rows = [c for c in clips if data.labels(c.emotion) in shared]
    seen = {c.speaker for c in rows} & set(provenance.speakers)
    digests = set(provenance.digests)
    for clip in rows:
        name = clip_name(clip)
        if data.digests[name][:16] in digests:  # one known recording identifies its speaker
            seen.add(clip.speaker or name)
    if model.net.audio is not None:
        data.enrol_speakers(model.net.audio)
    return _Compared(model, rows, shared, seen, notes)


def _predict(data: "LabelledDataModule", compared: _Compared) -> "Predictions":
    """Predictions over the shared classes."""
    from avser.evaluation.predict import predict, select_classes

    clips, net = compared.clips, compared.model.net
    whole = predict(net, data.loader(clips), clips, seen=compared.seen, classes=data.classes)
    return select_classes(whole, compared.classes)


def _stress(
    data: "LabelledDataModule", compared: Sequence[_Compared], *, unseen_only: bool
) -> dict[str, dict[str, object]]:
    """Figures of the models' mean under each condition."""
    from avser.cli.progress import counting
    from avser.evaluation.predictions import Predictions
    from avser.evaluation.stress import stress
    from avser.evaluation.summary import stream_figures

    per_model = []
    for each in compared:
        with counting("stress") as progress:
            conditions = stress(
                each.model.net,
                data.loader(each.clips),
                each.clips,
                seen=each.seen,
                classes=data.classes,
                kept=each.classes,
                progress=progress,
            )
        per_model.append(conditions)
    means = {name: Predictions.mean([c[name] for c in per_model]) for name in per_model[0]}
    if unseen_only:
        means = {name: predictions.unseen() for name, predictions in means.items()}
    return stream_figures({name: [mean] for name, mean in means.items()}, seeds=[])


def _summary(
    models: "Sequence[Bundle]",
    data: "LabelledDataModule",
    predictions: "Predictions",
    *,
    split: str,
    split_hash: str,
    notes: list[str],
) -> dict[str, object]:
    from avser.evaluation.summary import summarise

    trained = [model.provenance for model in models]
    seeds = dict.fromkeys(p.seed for p in trained if p.seed is not None)
    epochs = dict.fromkeys(p.epochs for p in trained if p.epochs is not None)
    return summarise(
        predictions,
        split=split,
        corpus=data.corpus.name,
        label_target=data.corpus.label_target,
        split_hash=split_hash,
        model=" + ".join(model.name for model in models),
        parameters=sum(int(model.config["parameters"]) for model in models),
        seeds=list(seeds) if len(seeds) == 1 else [],
        epochs=list(epochs),
        commit=trained[0].commit,
        notes=[*notes, *data.notes],
        marks=data.marks,
    )
