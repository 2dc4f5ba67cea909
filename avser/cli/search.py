"""``avser search``: search for settings, chosen by validation."""

from collections.abc import Sequence
from pathlib import Path

from avser.cli.config import Parser, locate, parse_data
from avser.evaluation.numbers import format_figure


def run(words: Sequence[str]) -> int:
    """Run the trials that are not done; print the table and write the best configuration."""
    parser = Parser(
        "search",
        "Search for settings with Optuna's TPE; validation chooses, the test part is left alone. "
        "Any setting of avser fit may follow.",
    )
    parser.add_argument("--space", metavar="FILE", required=True, help="settings and their ranges")
    parser.add_argument(
        "--trials", type=int, default=10, metavar="N", help="trials of the whole study"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sampler")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at once")
    parser.add_argument(
        "--storage", metavar="URL", help="database of the study, which machines may share: "
        "sqlite:///FILE or postgresql://... (default: DIR/study.db)",
    )  # fmt: skip
    own, rest = parser.split(words)
    if own.trials < 1:
        parser.error(f"--trials {own.trials}: legal is 1 or more")
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from avser.training import search

    console = Console()
    space = search.read_space(locate(own.space))
    parse_data(rest)  # errors in the data are raised once, before any trial

    def finished(trial: search.Trial) -> None:
        result = trial.problem or f"validation UAR {format_figure(trial.uar)}"
        console.print(Text(f"trial {trial.number}: {result}{' (pruned)' if trial.pruned else ''}"))

    actual = search.run(
        space,
        out=own.out,
        trials=own.trials,
        words=rest,
        seed=own.seed,
        jobs=own.jobs,
        finished=finished,
        storage=own.storage,
    )
    short = {name: name.removeprefix("model.").replace(".init_args", "") for name in space}
    table = Table("trial", "validation UAR", *short.values())
    for trial in actual:
        score = "failed" if trial.uar is None else format_figure(trial.uar)
        table.add_row(str(trial.number), score, *(_cell(trial.settings[n]) for n in space))
    console.print(table)
    console.print(f"Best configuration: {own.out / 'best.yaml'}", highlight=False)
    console.print("The test part was not looked at: train the best with avser fit or crossval.")
    return 0


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
