"""``avser federate keys``: make the keys and certificates of a server or a client."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    own = argparse.ArgumentParser(prog="avser federate keys", description=__doc__)
    kinds = own.add_subparsers(dest="kind", required=True)
    server = kinds.add_parser("server", help="an authority and the server's certificate")
    server.add_argument("--out", metavar="KEYS", type=Path, required=True)
    server.add_argument(
        "--host", action="append", default=[], metavar="NAME|IP", help="as clients know the server"
    )
    client = kinds.add_parser("client", help="a contributor's key pair")
    client.add_argument("--out", metavar="DIR", type=Path, required=True)
    client.add_argument("--name", required=True, help="of the contributor")
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
