"""``avser federate keys``: make the keys and certificates of a server or a client."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from avser.cli.parser import CommandParser


def parser() -> CommandParser:
    """The command's flags."""
    own = CommandParser("federate keys", "Make the keys and certificates of a server or a client.")
    kinds = own.add_subparsers(dest="kind", required=True, parser_class=ArgumentParser)
    server = kinds.add_parser("server", help="an authority and the server's certificate")
    server.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the keys")
    server.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME|IP",
        help="name or address by which clients reach the server; may be repeated",
    )
    client = kinds.add_parser("client", help="a contributor's key pair")
    client.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder of the key pair"
    )
    client.add_argument("--name", required=True, help="name of the contributor")
    return own


def run(words: Sequence[str]) -> int:
    """Make keys and print how they are distributed."""
    own = parser().parse_args(words)
    from avser.federated.deployment import keys

    if own.kind == "server":
        keys.make_server_keys(own.out, hosts=own.host)
        print(
            f"Keys: {own.out}\n"
            f"Give {own.out / keys.CA} to every contributor; keep the rest to yourself.\n"
            f"Put contributors' public keys (NAME.pub) into {own.out / keys.CLIENTS}/."
        )
        return 0
    private, public = keys.make_client_keys(own.out, name=own.name)
    print(
        f"Private key: {private} (never give it away)\n"
        f"Public key: {public} (send it to the coordinator)"
    )
    return 0
