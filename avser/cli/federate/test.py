"""``avser federate test``: measure the latest release of a server on a corpus.

With ``-c DATA`` the model is fetched and measured here, and the corpus stays here; with ``--corpus
NAME`` the server measures it on one of its own.
"""

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avser.cli.federate.model import add_server
from avser.cli.parser import CommandParser
from avser.errors import ConfigError
from avser.evaluation.numbers import format_figure

if TYPE_CHECKING:
    from avser.federated.client.remote import Federation


def parser() -> CommandParser:
    """The command's flags."""
    own = CommandParser(
        "federate test",
        "Measure the latest release of a server on a corpus. With -c DATA, model and corpus are "
        "evaluated on this machine; with --corpus NAME, the server evaluates one of its own.",
    )
    add_server(own)
    own.add_argument("--corpus", metavar="NAME", help="corpus of the server; test is its first")
    own.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="DATA",
        help="corpus of this machine: configuration of the data; flags of avser "
        "evaluate may follow",
    )
    return own


def run(words: Sequence[str]) -> int:
    """Evaluate locally or on the server; further options are those of ``avser evaluate``."""
    own, rest = parser().parse_known_args(list(words))
    if bool(own.corpus) == bool(own.config):
        raise ConfigError(
            "Bad test: give either -c DATA (evaluated here) or --corpus NAME (on the server)."
        )
    from avser.federated.client.remote import Federation

    with Federation(own.server, ca=own.ca, token=own.token) as federation:
        return (
            _evaluate_remotely(own, federation)
            if own.corpus
            else _evaluate_locally(own, federation, rest)
        )


def _evaluate_remotely(own: Namespace, federation: "Federation") -> int:
    row = federation.test(own.corpus, arm=own.arm)
    print(
        f"{row['model']} on {row['corpus']}, {row['n']} clips: UAR {format_figure(row['uar'])}, "
        f"accuracy {format_figure(row['accuracy'])}, macro-F1 {format_figure(row['macro_f1'])}"
    )
    return 0


def _evaluate_locally(own: Namespace, federation: "Federation", rest: list[str]) -> int:
    from avser.cli import evaluate

    with tempfile.TemporaryDirectory(prefix="avser-model-") as folder:
        federation.model(Path(folder) / "bundle", arm=own.arm)
        configs = [w for name in own.config for w in ("-c", name)]
        return evaluate.run([*configs, "--model", str(Path(folder) / "bundle"), *rest])
