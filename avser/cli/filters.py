"""``avser filters``: draw the filters of a model's first layer."""

from collections.abc import Sequence
from pathlib import Path

from avser.cli.parser import CommandParser
from avser.errors import ConfigError


def run(words: Sequence[str]) -> int:
    """Draw them, best first by pitch, formant, periodicity and silence; print the first of each."""
    parser = CommandParser("filters", "Draw the filters of a model's first convolution.")
    parser.add_argument("--model", metavar="NAME|DIR", help="released model, bundle, or run folder")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help=".png, .pdf or .svg"
    )
    parser.add_argument("--stream", choices=("audio", "video"), default="audio", help="encoder")
    parser.add_argument(
        "--count", type=int, default=12, metavar="N", help="filters of each ranking"
    )
    own = parser.parse_args(list(words))
    if own.count < 1:
        raise ConfigError(f"Bad --count {own.count}: legal is 1 or more.")
    from rich.console import Console
    from rich.table import Table

    from avser.bundle import serialization as bundle
    from avser.visualization.filter_plots import filters_figure
    from avser.visualization.filters import first_filters, rankings
    from avser.visualization.plots import figure_format, save_figure

    figure_format(own.out)  # before the work
    loaded = bundle.load(own.model)
    filters = first_filters(loaded.net, stream=own.stream)
    table = Table("ranked by", "highest", "its score", "median score")
    for name, score in rankings(filters).items():
        best = int(score.argmax())
        table.add_row(name, f"no. {best}", f"{score[best]:.3f}", f"{score.median():.3f}")
    title = f"First layer of {loaded.name}, {own.stream}"
    save_figure(filters_figure(filters, title=title, count=own.count), own.out)
    console = Console()
    console.print(table)
    console.print(f"drawn: {own.out}", highlight=False)
    return 0
