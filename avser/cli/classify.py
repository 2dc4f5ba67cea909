"""``avser classify``: label media files, or folders of them."""

import argparse
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avser.cli.inputs import Inputs, expand, nothing_there
from avser.cli.parser import CommandParser
from avser.errors import ConfigError, escape_controls
from avser.files import is_special

if TYPE_CHECKING:
    from avser.cli.progress import ClassifyProgress
    from avser.cli.side_files import SideFiles
    from avser.inference.classifier import Failure
    from avser.inference.row_log import RowLog
    from avser.inference.settings import ClassifySettings
    from avser.types import Prediction

#: Legal endings of the files of each output.
SUFFIXES = {"json": (".json", ".jsonl", ".ndjson"), "csv": (".csv",), "parquet": (".parquet",)}

SELF, RUNNING = "self", "running"  # of --enrol
_COUNTED = 1_000  # inputs that are drawn beforehand, so that few have a bar with an end


def parser() -> CommandParser:
    """Return the command's parser."""
    p = CommandParser("classify", "Label media files.")
    p.add_argument("paths", nargs="*", metavar="PATH", help="files, folders, patterns, addresses "
                   "(https://...), or - for standard input")  # fmt: skip
    p.add_argument("--list", metavar="FILE", action="append", default=[], help="text file with one "
                   "input a line; - is stdin")  # fmt: skip
    p.add_argument("--model", metavar="NAME|DIR", action="append", help="released model, bundle, "
                   "or run folder; several: the mean of their probabilities")  # fmt: skip
    p.add_argument("--modality", choices=("auto", "audio", "video", "both"), default="auto",
                   help="streams to use; auto: all that the clip and the model have")  # fmt: skip
    p.add_argument(
        "--recursive", action="store_true", help="read folders with all that is below them"
    )
    p.add_argument("--workers", type=int, default=2, metavar="N", help="decoding threads")
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto: the fastest")
    p.add_argument("--json", metavar="FILE", help="write all results: .json, or .jsonl for a line "
                   "a clip; - is stdout")  # fmt: skip
    p.add_argument("--csv", metavar="FILE", help="write one row a clip: .csv; - is stdout")
    p.add_argument("--parquet", metavar="FILE", help="write one row a clip: .parquet")
    p.add_argument("--resume", action="store_true", help="keep the rows that the finished files "
                   "have already; an interrupted job goes on without it")  # fmt: skip
    p.add_argument(
        "--timeline", metavar="FILE", help="one clip: a file ending in .csv, .json, .vtt, .srt, "
        ".TextGrid, .eaf (ELAN) or .labelstudio.json; several: a folder, with --timeline-format",
    )  # fmt: skip
    formats = ("csv", "json", "vtt", "srt", "TextGrid", "eaf", "labelstudio.json")
    p.add_argument("--timeline-format", metavar="FORMAT", choices=formats,
                   help=f"of a folder's timelines: {', '.join(formats)}")  # fmt: skip
    p.add_argument("--plot", metavar="FILE", help="draw the timeline: .png, .pdf or .svg; several "
                   "clips: a folder")  # fmt: skip
    p.add_argument("--annotate", metavar="OUT.mp4", help="write the clip with box, label and bars; "
                   "several clips: a folder")  # fmt: skip
    p.add_argument("--faces", choices=("main", "all"), default="main", help="main: the person who "
                   "speaks; all: also the prediction of every face alone, in the "
                   "terminal and in the JSON")  # fmt: skip
    p.add_argument("--detector", metavar="YUNET.onnx", help="detect faces with this "
"model of OpenCV instead of "
                   "MTCNN")  # fmt: skip
    p.add_argument("--features", metavar="TABLE.csv", help="precomputed video features, a row a "
                   "clip, for models that read them")  # fmt: skip
    p.add_argument("--enrol", metavar="FOLDER|self|running", help="unlabelled clips of the "
                   "speaker, to normalise by, for models that do; self: the classified clips "
                   "themselves, five of one person or a recording over 60 s; running: each face "
                   "centred on its own mean so far, half of it after 20 s")  # fmt: skip
    p.add_argument("--quiet", action="store_true", help="no bars, no progress, no file names")
    _add_job_flags(p)
    return p


def _add_job_flags(p: CommandParser) -> None:
    job = p.add_argument_group("jobs of many clips, in parts (docs/guides/scale.md)")
    job.add_argument("--out", metavar="DIR", help="folder or address of the job: parts of rows in "
                     "Parquet and a manifest; finished parts are kept")  # fmt: skip
    job.add_argument("--engine", choices=("local", "ray"), default="local", help="ray: "
                     "spread the parts over a cluster")  # fmt: skip
    job.add_argument("--address", metavar="HOST:PORT|auto", help="of a running Ray "
"cluster; without "
                     "it, one is started on this machine")  # fmt: skip
    job.add_argument("--actors", type=int, metavar="N", help="largest number of worker "
                     "processes of a cluster; by default as many as there is room for")  # fmt: skip
    job.add_argument("--actor-cpus", type=float, default=1.0, metavar="C", help="cores of each "
                     "worker process")  # fmt: skip
    job.add_argument("--actor-gpus", type=float, default=0.0, metavar="G", help="GPUs, or a share "
                     "of one, of each worker process")  # fmt: skip
    job.add_argument("--shard", metavar="I/N", help="do each N-th part from the I-th, for batch "
                     "systems")  # fmt: skip
    job.add_argument("--part-clips", type=int, metavar="N", help="clips of a part (default: 128)")


def run(words: Sequence[str]) -> int:
    """Classify; 1 if any input failed."""
    command = parser()
    own = command.parse_args(list(words))
    if not own.paths and not own.list:
        command.error("give PATH or --list FILE")
    outputs = _Outputs(own)
    if own.out is not None or own.engine != "local" or own.shard is not None:
        from avser.cli.classify_job import classify_job

        return classify_job(own, outputs.files)
    inputs = Inputs(own.paths, recursive=own.recursive, lists=own.list)
    drawn = iter(inputs)
    first = list(islice(drawn, _COUNTED))
    if not first:
        raise nothing_there(own.paths or own.list)
    from avser.cli.side_files import SideFiles

    files = SideFiles(own, several=len(first) > 1, above=inputs.common_folder())
    total = len(first) if len(first) < _COUNTED else None
    job = _Job(own, chain(first, drawn), total=total, side_files=files)
    with ExitStack() as stack:
        log = stack.enter_context(outputs.log(own)) if outputs.files else None
        try:
            outputs.write(job.rows(log), log)
        except KeyboardInterrupt as error:
            kept = "" if log is None else f"; the same command goes on from {log.path}"
            raise type(error)(f"interrupted{kept}.") from error
    notes = [inputs.summary(), *files.summary(), *(f"wrote {name}." for name in outputs.files)]
    for note in notes if not own.quiet else ():
        if note:
            print(f"avser: {escape_controls(note)}", file=sys.stderr)
    return 1 if job.failed else 0


class _Outputs:
    """Files and streams that the rows go to.

    Raises:
        ConfigError: a name's ending is not legal, or two outputs are streams.
    """

    def __init__(self, own: argparse.Namespace) -> None:
        self.files: list[str] = []
        self.streams: list[tuple[str, str]] = []
        for kind, suffixes in SUFFIXES.items():
            name = getattr(own, kind)
            if name is None:
                continue
            if name == "-" or is_special(name):
                self.streams.append((kind, name))
            elif Path(name).suffix.lower() in suffixes:
                self.files.append(name)
            else:
                others = [o for o, s in SUFFIXES.items() if Path(name).suffix.lower() in s]
                cure = f"; --{others[0]} writes that" if others else ""
                raise ConfigError(
                    f"Bad --{kind} {name}: expected a name that ends in {' or '.join(suffixes)}"
                    f"{cure}."
                )
        if len(self.streams) > 1 or ("parquet", "-") in self.streams:
            raise ConfigError(
                "Bad outputs: --json and --csv can't both be stdout, and Parquet can't at all; "
                "name a file."
            )
        if any(name.endswith(".parquet") for name in self.files):
            from avser.extras import require

            require("scale", "pyarrow")
        if own.resume and not self.files and own.out is None:
            raise ConfigError(
                "Bad --resume: it needs the file of the earlier results; give --json FILE, or the "
                "--out DIR of a job."
            )
        self.to_terminal = not self.streams and not own.quiet

    def log(self, own: argparse.Namespace) -> "RowLog":
        """Open the log of the rows beside the first file."""
        from avser.inference.row_log import RowLog, log_path
        from avser.inference.writers import read_rows

        names = ("model", "modality", "faces", "detector", "features", "enrol")
        settings = {name: getattr(own, name) for name in names}
        # tables have no timeline, so that they can't stand for the rows of a JSON file
        whole = next((n for n in self.files if n == own.json), self.files[0])
        kept = own.resume and Path(whole).exists()
        return RowLog(
            log_path(self.files[0]),
            settings=settings,
            earlier=partial(read_rows, whole) if kept else tuple,
        )

    def write(self, rows: Iterator[Mapping[str, Any]], log: "RowLog | None") -> None:
        """Write rows as they come to the one stream, or through the log to all files."""
        from avser.inference.writers import write_csv, write_json, write_rows

        if log is not None:
            for _ in rows:
                pass
            for name in self.files:
                write_rows(log.rows(), name)
            rows = log.rows()
        for kind, name in self.streams:
            write = write_csv if kind == "csv" else write_json
            if name == "-":
                write(rows, sys.stdout)
            else:
                with open(name, "w", encoding="utf-8", errors="surrogateescape") as file:
                    write(rows, file)
        for _ in rows if log is None else ():
            pass
        if log is not None:
            log.remove()


@dataclass
class _Job:
    """Inputs on their way to rows."""

    own: argparse.Namespace
    inputs: Iterator[str]
    total: int | None
    side_files: "SideFiles"
    failed: bool = False
    _places: deque[int] = field(default_factory=deque)  # in the log, of the inputs under way

    def rows(self, log: "RowLog | None") -> Iterator[Mapping[str, Any]]:
        """Classify what the log does not hold; every row is in the log before it is given."""
        todo = self._todo(log)
        first = next(todo, None)
        if first is None:
            return
        from avser.cli.progress import classifying

        own = self.own
        settings = settings_of(own)
        predictor = settings.predictor()
        bars = not own.quiet and not (sys.stdout.isatty() and "-" in (own.json, own.csv))
        with classifying(self.total, quiet=not bars) as progress:
            results = settings.classify(predictor, chain([first], todo), progress=progress.reading)
            for result in results:
                row = self._row(result, progress)
                if log is not None:
                    log.add(self._places.popleft(), row)
                progress.done()
                yield row

    def _todo(self, log: "RowLog | None") -> Iterator[str]:
        for path in self.inputs:
            if log is None:
                yield path
            elif not log.keep(path):
                self._places.append(log.reserve())
                yield path

    def _row(self, result: "Prediction | Failure", progress: "ClassifyProgress") -> dict[str, Any]:
        from avser.cli.results import result_lines
        from avser.inference.classifier import Failure

        row = dict(result.to_dict())
        failure = result if isinstance(result, Failure) else self.side_files.write(result)
        if failure is not None:
            self.failed = True
            row["error"] = failure.to_dict()["error"]
            error = str(failure.error)
            named = error if failure.path in error else f"{failure.path}: {error}"
            progress.warn(f"avser: {named}")
        to_terminal = not self.own.quiet and "-" not in (self.own.json, self.own.csv)
        if to_terminal and not isinstance(result, Failure):
            several = self.total is None or self.total > 1
            progress.print(result_lines(result, several=several, ascii_only=progress.ascii_only))
        return row


def _enrolled(own: argparse.Namespace) -> tuple[str, ...]:
    """Clips by which to normalise.

    Raises:
        ConfigError: the classified clips can't be read twice.
    """
    if own.enrol == RUNNING:
        return ()
    if own.enrol != SELF:
        return tuple(expand([own.enrol], recursive=True)) if own.enrol else ()
    if "-" in (*own.paths, *own.list):
        raise ConfigError(
            "Bad --enrol self: standard input can't be read twice; give files or folders."
        )
    return tuple(Inputs(own.paths, recursive=own.recursive, lists=own.list))


def settings_of(own: argparse.Namespace) -> "ClassifySettings":
    """Settings of the classification, from the command line."""
    from avser.inference.settings import ClassifySettings

    return ClassifySettings(
        models=tuple(own.model or ()),
        modality=own.modality,
        faces=own.faces,
        detector=own.detector,
        features=own.features,
        enrol=_enrolled(own),
        enrol_self=own.enrol == SELF,
        centre_running=own.enrol == RUNNING,
        device=own.device,
        workers=own.workers,
    )
