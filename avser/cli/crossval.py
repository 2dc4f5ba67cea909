"""``avser crossval``: train and test over folds and seeds."""

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avser.cli.config import Parser, parse_data, prepare_data
from avser.errors import ConfigError
from avser.evaluation.numbers import format_figure

if TYPE_CHECKING:
    from avser.training.crossval import RunJobs


def _seeds(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _parser() -> Parser:
    parser = Parser(
        "crossval",
        "Train and test over folds and seeds. Any setting of avser fit may follow. After an "
        "interruption the same command goes on.",
        figures=True,
    )
    parser.add_argument("--out", metavar="RUN", type=Path, required=True, help="folder of the runs")
    parser.add_argument(
        "--folds", type=int, metavar="N", help="number of folds (default: as the split has)"
    )
    parser.add_argument("--fold", type=int, metavar="K", help="run this fold alone")
    parser.add_argument(
        "--seeds", type=_seeds, metavar="A,B", default=[0], help="seeds of each fold"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at once")
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="ray: spread the trainings "
        "over a cluster; run folders are on a shared disk",
    )  # fmt: skip
    parser.add_argument(
        "--address",
        metavar="HOST:PORT|auto",
        help="of a running Ray cluster; without it, one is started on this machine",
    )
    parser.add_argument("--actor-cpus", type=float, default=1.0, metavar="C", help="with ray: "
                        "cores of each training")  # fmt: skip
    parser.add_argument(
        "--actor-gpus", type=float, default=0.0, metavar="G", help="with ray: GPUs of each"
    )
    parser.add_argument("--name", help="name of the model in the tables")
    parser.add_argument("--json", metavar="FILE", help="also write the results there; - is stdout")
    parser.add_argument("--stress", action="store_true", help="measure degraded test clips too")
    parser.add_argument(
        "--row", type=Path, metavar="FILE", help="append a row with every fold's UAR to this table"
    )
    return parser


def run(words: Sequence[str]) -> int:
    """Run the folds that are not done, then write the report over all of them."""
    own, rest = _parser().split(words)
    from avser.bundle.provenance import check_name

    name = check_name(own.name or own.out.resolve().name)
    if own.row is not None:
        _rows(own.row)  # what can't be read is refused before the first training
    from rich.console import Console

    from avser.evaluation.report import write_report
    from avser.evaluation.tables import print_table
    from avser.files import write_json
    from avser.training import crossval

    if own.folds is not None:
        rest += [f"--data.split.init_args.folds={own.folds}"]
    count, has_folds, split = _folds(rest)
    folds = crossval.plan(own.out, folds=count, seeds=own.seeds, only=own.fold)
    console = Console(stderr=own.json == "-")

    def finished(fold: crossval.Fold, summary: Mapping[str, Any]) -> None:
        figure, epochs = summary["uar"]["value"], summary["epochs"][0]
        console.print(
            f"seed {fold.seed} fold {fold.fold}: UAR {format_figure(figure)}, {epochs} epochs",
            highlight=False,
        )
        if own.row is not None:
            _append(own.row, fold, summary)

    words = [*rest, "--name", name, *(["--stress"] if own.stress else [])]
    crossval.run(
        folds, words=words, has_folds=has_folds, run_jobs=_run_jobs(own), finished=finished
    )
    everything = crossval.plan(own.out, folds=count, seeds=own.seeds)
    runs, summary = crossval.merge(everything, expected=count, split=split)
    print_table(summary, console)
    first = next(f for f in everything if f.done)
    write_report(
        own.out,
        summary,
        predictions=runs,
        config_text=(first.folder / "config.yaml").read_text(encoding="utf-8"),
        figures=own.figures or (),
    )
    write_json(own.json, summary)
    console.print(f"Report: {own.out / 'report.html'}")
    return 0


def _run_jobs(own: argparse.Namespace) -> "RunJobs":
    """Function that runs the trainings, on this machine or on a cluster."""
    if own.engine == "ray":
        from avser.distributed.engine import Cluster
        from avser.distributed.tasks import fit_on_ray

        return fit_on_ray(Cluster(own.address, None, own.actor_cpus, own.actor_gpus))
    from avser.training.crossval import run_here

    return partial(run_here, at_once=own.jobs)


def _folds(words: Sequence[str]) -> tuple[int, bool, str]:
    """Number of folds of the split, whether it takes a fold number, and its description."""
    data = parse_data([w.replace("{seed}", "0").replace("{fold}", "0") for w in words])
    has_folds = hasattr(data.split, "fold")
    if not has_folds and any("folds=" in w for w in words):
        raise ConfigError(
            f"Bad --folds: {data.split.name} has none; leave it out, or use SpeakerKFold."
        )
    prepare_data(data)
    return data.fold_count, has_folds, data.split.describe()


def _rows(path: Path) -> list[dict[str, Any]]:
    """Rows of the table so far.

    Raises:
        ConfigError: it is no file of rows, or lies in no folder.
    """
    rows = None
    with suppress(OSError, ValueError):
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    fine = isinstance(rows, list) and all(isinstance(r, dict) and "seed" in r for r in rows)
    if not fine or not path.suffix or any(p.is_file() for p in path.absolute().parents):
        raise ConfigError(
            f"Bad --row {str(path)!r}: expected a file of rows that avser crossval wrote, or a new "
            "name that ends in .json."
        )
    return rows or []


def _append(path: Path, fold: Any, summary: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Keep every finished fold in one committed file, so that nothing measured is lost."""
    from avser.files import atomic_write

    rows = _rows(path)
    keys = ("uar", "accuracy", "macro_f1", "n", "split_hash", "epochs", "commit", "parameters")
    row = {"seed": fold.seed, "fold": fold.fold, **{key: summary[key] for key in keys}}
    row |= {key: summary[key] for key in ("macro_precision", "cost", "marks") if key in summary}
    row |= {f"uar_{name}": f["uar"] for name, f in summary.get("streams", {}).items()}
    for level, figures in summary.get("levels", {}).items():
        row |= {f"{name}_by_{level}": figures[name] for name in ("uar", "accuracy")}
    rows = [r for r in rows if (r["seed"], r["fold"]) != (fold.seed, fold.fold)]
    with atomic_write(path) as file:
        content = sorted([*rows, row], key=lambda r: (r["seed"], r["fold"]))
        file.write("[\n" + ",\n".join(json.dumps(r) for r in content) + "\n]\n")
