"""``avser classify``: label media files, or folders of them."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avser.cli.inputs import expand
from avser.errors import ConfigError, unknown
from avser.inference.rows import write_csv

if TYPE_CHECKING:
    from rich.console import Console

    from avser.inference.predictor import Failure
    from avser.media.faces import FaceDetector
    from avser.types import Prediction

_FORMATS = ("csv", "json", "vtt", "srt", "TextGrid")


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = argparse.ArgumentParser(prog="avser classify", description="Label media files.")
    p.add_argument("paths", nargs="+", metavar="PATH", help="files, folders, or patterns")
    p.add_argument("--model", metavar="NAME|DIR", action="append", help="released model, bundle, "
                   "or run folder; several: the mean of their probabilities")  # fmt: skip
    p.add_argument("--modality", choices=("auto", "audio", "video", "both"), default="auto")
    p.add_argument("--recursive", action="store_true", help="folders with all below them")
    p.add_argument("--workers", type=int, default=2, metavar="N", help="decoding threads")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    p.add_argument("--json", metavar="FILE", help="write all results as JSON; - is stdout")
    p.add_argument("--csv", metavar="FILE", help="write one row a clip; - is stdout")
    p.add_argument(
        "--timeline", metavar="FILE", help="one clip: a file ending in .csv, .json, .vtt, .srt or "
        ".TextGrid; several: a folder, with --timeline-format",
    )  # fmt: skip
    p.add_argument("--timeline-format", choices=_FORMATS)
    p.add_argument("--plot", metavar="FILE.png", help="draw the timeline; several clips: a folder")
    p.add_argument("--annotate", metavar="OUT.mp4", help="write the clip with box, label and bars; "
                   "several clips: a folder")  # fmt: skip
    p.add_argument("--faces", choices=("main", "all"), default="main", help="all: what every face "
                   "says alone, in the JSON")  # fmt: skip
    p.add_argument("--detector", metavar="YUNET.onnx", help="OpenCV's YuNet in MTCNN's place")
    p.add_argument("--features", metavar="TABLE.csv", help="precomputed picture features, a row a "
                   "clip, for models that read them")  # fmt: skip
    p.add_argument("--enrol", metavar="FOLDER", help="unlabelled clips of the speaker, to "
                   "normalise by; for models that do")  # fmt: skip
    p.add_argument("--resume", action="store_true", help="keep the results that --json has already")
    p.add_argument("--quiet", action="store_true", help="no bars and no progress")
    return p


def run(words: Sequence[str]) -> int:
    """Classify; 1 if any input failed."""
    own = parser().parse_args(list(words))
    paths = expand(own.paths, recursive=own.recursive)
    _check(own, len(paths))
    kept = _kept(own) if own.resume else {}
    todo = [p for p in paths if p not in kept]
    rows: dict[str, Mapping[str, Any]] = dict(kept)
    try:
        if todo:
            for path, result in _results(own, todo, everything=paths):
                rows[path] = result
    finally:  # interrupted, it keeps what it has; refused, it leaves old files alone
        if rows:
            _write([rows[p] for p in paths if p in rows], own)
    return 1 if any("error" in row for row in rows.values()) else 0


def _check(own: argparse.Namespace, count: int) -> None:
    if own.resume and own.json in (None, "-"):
        raise ConfigError(
            "Bad --resume: it needs the file of the earlier results; give --json FILE."
        )
    if own.json == "-" and own.csv == "-":
        raise ConfigError("Bad outputs: --json and --csv can't both be stdout; name a file.")
    if own.timeline and count > 1 and not own.timeline_format:
        raise ConfigError(
            f"Bad --timeline for {count} clips: it names a folder then; add --timeline-format."
        )
    kind = own.timeline_format or Path(own.timeline or "x.json").suffix.removeprefix(".")
    if kind.lower() not in {name.lower() for name in _FORMATS}:
        raise ConfigError(unknown("timeline format", kind, _FORMATS))


def _kept(own: argparse.Namespace) -> dict[str, Mapping[str, Any]]:
    path = Path(own.json)
    if not path.exists():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {row["path"]: row for row in rows if "error" not in row}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"Bad results {path}: not what --json writes; remove it.") from error


def _results(
    own: argparse.Namespace, paths: list[str], *, everything: list[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from rich.console import Console

    from avser.cli.progress import watching
    from avser.inference.ensemble import Ensemble
    from avser.inference.predictor import Failure, Predictor

    detector = _detector(own)
    models = [
        Predictor.from_pretrained(m, device=own.device, detector=detector, features=own.features)
        for m in own.model or [None]
    ]
    predictor = models[0] if len(models) == 1 else Ensemble(models)
    if own.enrol:
        predictor.enrol(expand([own.enrol], recursive=True))
    err = Console(stderr=True)
    out = Console(soft_wrap=True)  # a path is not broken over lines
    several = len(everything) > 1
    with watching(err, len(paths), quiet=own.quiet) as watch:
        answers = predictor.classify(
            paths,
            modality=own.modality,
            faces=own.faces,
            workers=own.workers,
            progress=watch.reading,
        )
        for path, answer in zip(paths, answers, strict=True):
            if isinstance(answer, Failure):
                print(f"avser: {path}: {answer.error}", file=sys.stderr)
            else:
                _side_files(own, path, answer, everything)
            watch.done()
            if "-" not in (own.json, own.csv) and not own.quiet:
                _show(out, path, answer, several=several)
            yield path, answer.to_dict()


def _detector(own: argparse.Namespace) -> "FaceDetector | None":
    if own.detector is None:
        return None
    from avser.media.faces import YuNetDetector

    return YuNetDetector(Path(own.detector))


def _side_files(
    own: argparse.Namespace, path: str, answer: "Prediction", everything: list[str]
) -> None:
    from avser.media.reader import probe

    if own.timeline:
        from avser.inference.timeline import write_timeline

        kind = own.timeline_format
        write_timeline(answer, _target(own.timeline, path, everything, suffix=kind), format=kind)
    if own.plot:
        from avser.visualization.annotate import thumbnails
        from avser.visualization.clip_plots import timeline_figure
        from avser.visualization.plots import save_figure

        target = _target(own.plot, path, everything, suffix="png")
        save_figure(timeline_figure(answer, faces=thumbnails(answer, path)), target)
    if own.annotate and probe(path).has_video:
        from avser.visualization.annotate import annotate

        annotate(answer, path, _target(own.annotate, path, everything, suffix="mp4"))


def _target(name: str, path: str, everything: list[str], *, suffix: str | None) -> Path:
    """Return the file of that name; for several clips, one in that folder, laid out as they are."""
    if len(everything) == 1:
        return Path(name)
    above = os.path.commonpath([Path(p).absolute().parent for p in everything])
    inside = Path(path).absolute().relative_to(above)
    return Path(name) / f"{inside}.{suffix}"


# -- what a person sees ----------------------------------------------------------------------


def _show(out: "Console", path: str, answer: "Prediction | Failure", *, several: bool) -> None:
    from rich.markup import escape

    from avser.inference.predictor import Failure

    if isinstance(answer, Failure):
        return
    head = f"[bold]{escape(path)}[/bold]"
    if answer.probabilities is None or answer.label is None:
        out.print(f"{head}: no voice and no face to judge ({answer.reason})")
        return
    sure = f"{answer.probabilities[answer.label]:.0%}"
    used = " and ".join(answer.modalities)
    out.print(f"{head}: [bold]{answer.label}[/bold] {sure}  [dim]({used}, {answer.model})[/dim]")
    if answer.reason:
        out.print(f"  {escape(answer.reason)}")
    if several:
        return
    for emotion, p in sorted(answer.probabilities.items(), key=lambda item: -item[1]):
        out.print(f"  {emotion:<10} {_bar(p)} {p:6.1%}", highlight=False)
    out.print("  timeline")
    for entry in answer.timeline:
        span = f"{entry.start_s:6.2f} to {entry.end_s:6.2f} s"
        if entry.label is None or entry.probabilities is None:
            out.print(f"  {span}  [dim](silence)[/dim]", highlight=False)
        else:
            p = entry.probabilities[entry.label]
            out.print(f"  {span}  {entry.label:<10} {_bar(p, 12)} {p:4.0%}", highlight=False)


def _bar(share: float, width: int = 30) -> str:
    eighths = round(share * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + " ▏▎▍▌▋▊▉"[part]).ljust(width + 1)


# -- files -------------------------------------------------------------------------------------


def _write(rows: list[Mapping[str, Any]], own: argparse.Namespace) -> None:
    if own.json == "-":
        print(json.dumps(rows, indent=1))
    elif own.json:
        from avser.files import atomic_write

        with atomic_write(own.json) as file:
            file.write(json.dumps(rows, indent=1) + "\n")
    if own.csv == "-":
        write_csv(rows, sys.stdout)
    elif own.csv:
        from avser.files import atomic_write

        with atomic_write(own.csv) as file:
            write_csv(rows, file)
