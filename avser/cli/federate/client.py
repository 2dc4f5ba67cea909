"""``avser federate client``: train on this machine's clips for a federation."""

from collections.abc import Sequence
from pathlib import Path

from avser.cli.parser import CommandParser
from avser.errors import ConfigError


def parser() -> CommandParser:
    """The command's flags."""
    own = CommandParser("federate client", "Train on this machine's clips for a federation.")
    own.add_argument("--server", metavar="HOST:PORT", required=True, help="address of the server")
    own.add_argument(
        "--data", metavar="FOLDER", type=Path, required=True, help="clips, with manifest.csv"
    )
    own.add_argument("--ca", metavar="FILE", type=Path, help="the server's ca.pem")
    own.add_argument("--key", metavar="FILE", type=Path, help="your private key, NAME.key")
    own.add_argument("--name", help="name of this client (default: that of the key)")
    own.add_argument("--insecure", action="store_true", help="without TLS and keys")
    own.add_argument(
        "--home",
        metavar="DIR",
        type=Path,
        help="folder of Flower's files (default: of the user's data)",
    )
    return own


def run(words: Sequence[str]) -> int:
    """Join until interrupted."""
    own = parser().parse_args(words)
    if own.insecure and (own.ca or own.key):
        raise ConfigError("Bad pair --insecure and --ca or --key: give one or the other.")
    if not own.insecure and not (own.ca and own.key):
        raise ConfigError(
            "Bad client: --ca and --key are missing; make a key with avser federate keys client "
            "and take ca.pem from the coordinator, or give --insecure."
        )
    from platformdirs import user_data_path

    from avser.federated.client.node import NodeSettings, run_node

    name = own.name or (own.key.stem if own.key else own.data.resolve().name)
    home = own.home or user_data_path("avser") / "federation" / name
    print(f"Joining {own.server} as {name}, clips of {own.data}; Ctrl-C leaves.", flush=True)
    run_node(
        NodeSettings(
            server=own.server,
            data=own.data,
            name=name,
            ca=own.ca,
            key=own.key,
            folder=home,
        )
    )
    return 0
