"""``avser combine``: join the predictions of finished trainings."""

import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from avser.cli.parser import CommandParser
from avser.errors import ConfigError
from avser.evaluation.numbers import format_figure

if TYPE_CHECKING:
    from avser.evaluation.predictions import Predictions


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Member:
    """One voice of the ensemble: a training's answers, or all folds' of one seed.

    Attributes:
        name: of the run, and of the stream.
        folders: of its trainings.
        predictions: of the test clips.
        summaries: content of each ``results.json``.
    """

    name: str
    folders: Sequence[Path]
    predictions: "Predictions"
    summaries: Sequence[Mapping[str, Any]]

    @property
    def split(self) -> str:
        """Description of the split; of all folds together where there are several."""
        described: str = self.summaries[0]["split"]
        if len(self.summaries) == 1:
            return described
        return re.sub(r", fold \d+ of (\d+)", r", \1 folds", described)


def parser() -> CommandParser:
    """The command's flags."""
    own = CommandParser(
        "combine",
        "Join the test predictions of finished trainings and measure them: ensembles, late "
        "fusion. Every seed of a cross-validation is a member. No model is run.",
    )
    own.add_argument(
        "runs",
        metavar="RUN[:STREAM]",
        nargs="+",
        help="folder of a training or a cross-validation; :audio or :video is that stream's head",
    )
    own.add_argument(
        "--rule",
        choices=("mean", "product"),
        default="mean",
        help="rule of combining probabilities",
    )
    own.add_argument("--name", default="combined", help="name in the table")
    own.add_argument("--json", metavar="FILE", help="write the results there; - is stdout")
    return own


def run(words: Sequence[str]) -> int:
    """Print the figures of all together, and each member's own."""
    own = parser().parse_args(words)
    from rich.console import Console

    from avser.evaluation.predictions import Predictions
    from avser.evaluation.summary import SEEN_SPEAKERS as SEEN
    from avser.evaluation.summary import summarise
    from avser.evaluation.tables import print_table
    from avser.files import write_json

    members = [member for run in own.runs for member in members_of(run)]
    joined = Predictions.mean([m.predictions for m in members], rule=own.rule)
    first = members[0].summaries[0]
    sizes = {m.folders: int(m.summaries[0]["parameters"]) for m in members}
    hashes = sorted({s["split_hash"] for m in members for s in m.summaries})
    summary = summarise(
        joined,
        split=members[0].split,
        corpus=first["corpus"],
        label_target=first["label_target"],
        split_hash=sha256("".join(hashes).encode()).hexdigest()[:8],
        model=own.name,
        parameters=sum(sizes.values()),
        seeds=_if_one({seed for m in members for s in m.summaries for seed in s["seeds"]}),
        epochs=sorted({e for m in members for s in m.summaries for e in s["epochs"]}),
        commit=next(iter(_if_one({s["commit"] for m in members for s in m.summaries})), None),
        notes=[f"the {own.rule} of {len(members)} members", *_notes(members)],
        marks=sorted({k for m in members for s in m.summaries for k in s["marks"]} - {SEEN}),
    )
    console = Console(stderr=own.json == "-")
    print_table(summary, console)
    write_json(own.json, summary)
    return 0


def _if_one(values: Set[T]) -> list[T]:
    """The value that all share; else none, and the notes have each member's."""
    return list(values) if len(values) == 1 else []


def _notes(members: Sequence[Member]) -> list[str]:
    from avser.evaluation.metrics import uar

    recorded = []
    for member in members:
        of = member.predictions
        alone = uar(of.labels, of.predicted, len(of.emotions))
        recorded.append(f"{member.name} alone: UAR {format_figure(alone)}")
    return recorded


def members_of(text: str) -> list[Member]:
    """The members that one word names: a training, or each seed of a cross-validation.

    Raises:
        ConfigError: nothing is finished there, or a fold of a seed is not.
    """
    from avser.evaluation.predictions import Predictions

    folder, _, stream = text.partition(":")
    root = Path(folder)
    seeds = sorted(root.glob("seed*")) or [root]
    result = []
    for seed in seeds:
        folders = tuple(sorted(seed.glob("fold*")) or [seed])
        missing = [f for f in folders if not (f / "DONE").exists()]
        if missing:
            raise ConfigError(f"Bad run {missing[0]}: it is not finished; run it to its end.")
        name = f"test.{stream}.json" if stream else "test.json"
        kept = [f / "predictions" / name for f in folders]
        if not kept[0].is_file():
            raise ConfigError(f"Bad run {text}: it kept no {name}; leave the stream out.")
        called = _called(seed)
        result.append(
            Member(
                name=f"{called}, {stream}" if stream else called,
                folders=folders,
                predictions=Predictions.merge([Predictions.load(path) for path in kept]),
                summaries=[json.loads((f / "results.json").read_text("utf-8")) for f in folders],
            )
        )
    return result


def _called(folder: Path) -> str:
    """A run's name, with the seed and the fold that its folder is of."""
    parts = folder.resolve().parts
    own = max(i for i, part in enumerate(parts) if not part.startswith(("seed", "fold")))
    return " ".join(parts[own:])
