"""``avser evaluate``: measure a model on a corpus."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avser.cli.config import Parser, add_figures_flag, parse_data, prepare_data
from avser.errors import ConfigError, SplitError

if TYPE_CHECKING:
    from avser.bundle.serialization import Bundle
    from avser.data.splits import SplitParts


def run(words: Sequence[str]) -> int:
    """Print the figures, and write them where asked."""
    about = "Measure a model on a corpus. Settings may follow as --data.*"
    parser = Parser("evaluate", about, corpus=False)
    parser.add_argument(
        "--model",
        metavar="NAME|DIR",
        action="append",
        help="released model, bundle, or run folder; several: the mean of their probabilities",
    )
    parser.add_argument("--corpus", metavar="NAME", help="instead of -c: a corpus by name")
    parser.add_argument("--speakers", metavar="A,B", help="test on these speakers alone")
    parser.add_argument(
        "--split", choices=("test", "all"), help="part of -c; all clips with --corpus"
    )
    parser.add_argument("--unseen-only", action="store_true", help="drop speakers of the training")
    parser.add_argument("--report", metavar="OUT", type=Path, help="folder for report and results")
    parser.add_argument("--stress", action="store_true", help="measure degraded clips too")
    parser.add_argument("--json", metavar="FILE", help="write the results there; - is stdout")
    add_figures_flag(parser)
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
    extra = [w for m in models for w in (*_label_words(m, rest), *_video_words(m, rest))]
    data = parse_data([*rest, *_agreed(extra)])
    prepare_data(data)
    parts, split = _parts(own, data)
    clips = parts.test
    found = [_outcomes(model, data, clips) for model in models]
    predictions = Predictions.mean([each for each, _ in found])
    notes = list(dict.fromkeys(note for _, told in found for note in told))
    if own.unseen_only:
        predictions = predictions.unseen()
    summary = _summary(models, data, predictions, split=split, split_hash=parts.hash, notes=notes)
    if data.split.unit == "chunk" and predictions.clip_ids and split.endswith("test part"):
        summary["levels"] = stream_figures({"clip": [by_clip(predictions)]}, seeds=[])
    console = Console(stderr=own.json == "-")
    if own.stress:
        summary["stress"] = _stress(models, data, clips, unseen_only=own.unseen_only)
    print_table(summary, console)
    if own.report is not None:
        page = write_report(own.report, summary, predictions=predictions, figures=own.figures or ())
        console.print(f"Report: {page}")
    write_json(own.json, summary)
    return 0


def _corpus_words(name: str, root: str | None) -> list[str]:
    from importlib import import_module

    found = import_module("avser.datamodules.corpora").find_corpus(name)
    words = [f"--data.corpus={found.__module__}.{found.__qualname__}"]
    words += [f"--data.corpus.init_args.root={root}"] if root else []
    return [*words, "--data.split=avser.data.splits.Resubstitution"]


def _agreed(words: list[str]) -> list[str]:
    """What all models of an ensemble ask of the data."""
    words = list(dict.fromkeys(words))
    keys = [w.partition("=")[0] for w in words]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise ConfigError(
            f"Bad ensemble: its models ask for different {twice[0]}; say which in the words after."
        )
    return words


def _video_words(loaded: "Bundle", words: Sequence[str]) -> list[str]:
    """Ask for the picture that the model's face half reads, unless the configuration says which."""
    from avser.cli.config import is_of_images
    from avser.models.encoders.features import FeatureVideoEncoder

    video = loaded.net.video
    if video is None or is_of_images(words) or any(w.startswith("--data.video") for w in words):
        return []
    return [f"--data.video={'features' if isinstance(video, FeatureVideoEncoder) else 'faces'}"]


def _label_words(loaded: "Bundle", words: Sequence[str]) -> list[str]:
    """Merge the corpus's classes as the model's were, unless the configuration says how."""
    merge = dict(loaded.provenance.merge)
    if any(w.startswith("--data.merge") for w in words):
        return []
    return [f"--data.merge={json.dumps(merge)}"]


def _parts(own: Any, data: Any) -> tuple["SplitParts", str]:  # noqa: ANN401
    """The split whose test part is measured, and how to call that."""
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


def _outcomes(loaded: "Bundle", data: Any, clips: list[Any]) -> tuple[Any, list[str]]:  # noqa: ANN401
    """Predict the clips whose class the model has; over the classes that both share."""
    from avser.evaluation.predict import predict, restrict

    rows, known, seen, notes = _comparable(loaded, data, clips)
    found = predict(loaded.net, data.loader(rows), rows, seen=seen, classes=data.classes)
    return restrict(found, known), notes


def _stress(
    models: "Sequence[Bundle]",
    data: Any,  # noqa: ANN401
    clips: list[Any],
    *,
    unseen_only: bool,
) -> dict[str, Any]:
    """Figures of the models' mean under each condition."""
    from avser.cli.progress import counting
    from avser.evaluation.predictions import Predictions
    from avser.evaluation.stress import stress, stress_figures

    each = []
    for model in models:
        rows, known, seen, _ = _comparable(model, data, clips)
        with counting("stress") as progress:
            found = stress(
                model.net,
                data.loader(rows),
                rows,
                seen=seen,
                classes=data.classes,
                kept=known,
                progress=progress,
            )
        each.append(found)
    joined = {name: Predictions.mean([found[name] for found in each]) for name in each[0]}
    if unseen_only:
        joined = {name: made.unseen() for name, made in joined.items()}
    return stress_figures({name: [made] for name, made in joined.items()}, seeds=[])


def _comparable(
    loaded: "Bundle",
    data: Any,  # noqa: ANN401
    clips: list[Any],
) -> tuple[list[Any], list[str], set[str], list[str]]:
    """Clips and classes that model and corpus share, what the model has seen of them, and notes."""
    from avser.data.splits import clip_name

    known = [name for name in data.classes if name in loaded.net.emotions]
    if len(known) < 2:
        raise ConfigError(
            f"Bad corpus: the model's classes ({', '.join(loaded.net.emotions)}) and the corpus's "
            f"({', '.join(data.classes)}) share fewer than two."
        )
    notes = []
    left = [name for name in data.classes if name not in known]
    unused = [name for name in loaded.net.emotions if name not in known]
    if left:
        notes.append(f"classes left out, which the model does not have: {', '.join(left)}")
    if unused:
        notes.append(
            f"the model's classes that are not in the corpus, left out: {', '.join(unused)}"
        )
    rows = [c for c in clips if data.labels(c.emotion) in known]
    seen = set(loaded.provenance.speakers)
    digests = set(loaded.provenance.digests)
    all_seen = {c.speaker for c in rows if c.speaker in seen}
    for clip in rows:
        name = clip_name(clip)
        if data.digests[name][:16] in digests:  # one known recording gives its speaker away
            all_seen.add(clip.speaker or name)
    if loaded.net.audio is not None:
        data.enrol_voices(loaded.net.audio)
    return rows, known, all_seen, notes


def _summary(
    models: "Sequence[Bundle]",
    data: Any,  # noqa: ANN401
    predictions: Any,  # noqa: ANN401
    *,
    split: str,
    split_hash: str,
    notes: list[str],
) -> dict[str, Any]:
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
