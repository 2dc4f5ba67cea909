"""``avser federate model``: download the latest release of a server."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from avser.cli.parser import CommandParser


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the server."""
    parser.add_argument("--server", metavar="URL", required=True, help="https://HOST:HTTP_PORT")
    parser.add_argument("--ca", metavar="FILE", type=Path, help="the server's ca.pem")
    parser.add_argument("--token", help="bearer token, if the server has one")
    parser.add_argument(
        "--arm", default="A", choices=("A", "B"), help="model, where two are compared"
    )


def parser() -> CommandParser:
    """The command's flags."""
    own = CommandParser("federate model", "Download the latest release of a server.")
    add_server(own)
    own.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the bundle")
    return own


def run(words: Sequence[str]) -> int:
    """Download and verify the model."""
    own = parser().parse_args(words)
    from avser.federated.client.remote import Federation

    with Federation(own.server, ca=own.ca, token=own.token) as federation:
        loaded = federation.model(own.out, arm=own.arm)
    size = sum(p.numel() for p in loaded.net.parameters())
    print(f"{loaded.name}: {size:,} parameters, {', '.join(loaded.net.emotions)}\nModel: {own.out}")
    return 0
