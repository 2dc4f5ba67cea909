"""``avser federate contribute``: web page to record, check and contribute clips."""

import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from avser.cli.parser import CommandParser
from avser.errors import ConfigError


def parser() -> CommandParser:
    """The command's flags."""
    own = CommandParser(
        "federate contribute", "Serve a web page to record, check and contribute clips."
    )
    own.add_argument("--server", metavar="URL", required=True, help="https://HOST:HTTP_PORT")
    own.add_argument(
        "--join", metavar="HOST:PORT", help="also train on the clips, with this server"
    )
    own.add_argument("--ca", metavar="FILE", type=Path, help="the server's ca.pem")
    own.add_argument("--key", metavar="FILE", type=Path, help="your private key, NAME.key")
    own.add_argument("--token", help="bearer token, if the server has one")
    own.add_argument("--name", help="your name (default: that of the key)")
    own.add_argument(
        "--folder",
        metavar="DIR",
        type=Path,
        help="folder of the contributions (default: of the user's data)",
    )
    own.add_argument(
        "--keep",
        choices=("features", "audio", "nothing"),
        default="features",
        help="what is kept of a clip",
    )
    own.add_argument("--port", type=int, default=7861, metavar="N", help="port of the page")
    own.add_argument("--insecure", action="store_true", help="join without TLS and keys")
    return own


def run(words: Sequence[str]) -> int:
    """Serve the page until interrupted."""
    own = parser().parse_args(words)
    from avser.extras import require

    require("web", "fastapi", "uvicorn", "multipart")
    if own.join and not own.insecure and not (own.ca and own.key):
        raise ConfigError("Bad --join: --ca and --key are missing, or give --insecure.")
    from platformdirs import user_data_path

    name = own.name or (own.key.stem if own.key else "me")
    folder = own.folder or user_data_path("avser") / "contributions" / name
    scratch = Path(tempfile.mkdtemp(prefix="avser-contribute-"))
    from avser.federated.client.contribute_page import ContributionSession, LatestModel, serve
    from avser.federated.client.contributions import Contributions
    from avser.federated.client.remote import Federation

    federation = Federation(own.server, ca=own.ca, token=own.token)
    model = LatestModel(federation, scratch / "bundle")
    contributions = Contributions(folder, keep=own.keep, name=name)
    session = ContributionSession(model, contributions, scratch)
    node = _join(own, folder, name)
    try:
        serve(session, port=own.port, ready=lambda url: print(f"Page: {url}", flush=True))
    finally:
        if node is not None:
            node.terminate()
        federation.close()
    return 0


def _join(own: Namespace, folder: Path, name: str) -> "subprocess.Popen[bytes] | None":
    """Start the node beside the page."""
    if not own.join:
        return None
    words = [sys.executable, "-m", "avser", "federate", "client", "--server", own.join]
    words += ["--data", str(folder), "--name", name]
    words += ["--insecure"] if own.insecure else ["--ca", str(own.ca), "--key", str(own.key)]
    return subprocess.Popen(words)
