"""Client node: Flower's SuperNode, restricted to this package's app."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from avser.errors import AvserError, ConfigError
from avser.federated.deployment.app_bundle import check_app
from avser.federated.deployment.flower_commands import DATA, NAME, prepare


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """Connection and data of a client.

    Attributes:
        server: ``HOST:PORT`` of the SuperLink.
        data: folder with ``manifest.csv``.
        name: of the client, as the server logs it.
        ca: certificate of the server's authority; None is without TLS.
        key: this client's private key; None is without.
        folder: for Flower's own files.
    """

    server: str
    data: Path
    name: str
    ca: Path | None
    key: Path | None
    folder: Path


def run_node(settings: NodeSettings) -> None:
    """Join a federation and train on request, until interrupted.

    Raises:
        ConfigError: the data or a key is missing.
        AvserError: the server refused a message once the node had joined.
    """
    sources = [settings.data / name for name in ("manifest.csv", "features")]
    if not any(path.exists() for path in sources):
        raise ConfigError(
            f"Bad data folder {settings.data}: it holds no manifest.csv with the columns "
            "path,emotion,speaker, and no features of the contributor's page."
        )
    for what, path in (("certificate", settings.ca), ("key", settings.key)):
        if path is not None and not path.is_file():
            raise ConfigError(f"Bad {what} {path}: there is no such file.")
    prepare(settings.folder, os.environ)
    os.environ[DATA], os.environ[NAME] = str(settings.data.resolve()), settings.name
    from flwr.supernode.cli.flower_supernode import flower_supernode

    _check_apps()
    _retry_transient_errors()
    words = ["flower-supernode", "--superlink", settings.server, "--port", str(_free_port())]
    words += ["--root-certificates", str(settings.ca)] if settings.ca else ["--insecure"]
    words += ["--auth-supernode-private-key", str(settings.key)] if settings.key else []
    sys.argv = words  # Flower's own command reads them
    flower_supernode()  # it does not return where it ends normally
    raise AvserError(
        f"Lost the federation at {settings.server}: it refused a message, see above; "
        "run the same command again."
    )


def _check_apps() -> None:
    """Have the node verify the server's app before it is unpacked.

    Raises:
        ConfigError: this version of Flower fetches apps in another way.
    """
    from flwr.supernode import start_client_internal as node

    inner = _flower_attribute(node, "http_request_response")

    @contextmanager
    def checked(*words: Any, **named: Any) -> Iterator[Any]:  # noqa: ANN401
        with inner(*words, **named) as connection:
            parts = list(connection)
            fetch = parts[4]

            def get_fab(digest: str, run_id: int) -> Any:  # noqa: ANN401
                fab = fetch(digest, run_id)
                try:
                    check_app(fab.content)
                except ConfigError as error:
                    print(f"avser federate client: {error}", file=sys.stderr, flush=True)
                    os._exit(1)  # the node would retry for ever
                return fab

            parts[4] = get_fab
            yield tuple(parts)

    node.http_request_response = checked  # type: ignore[attr-defined]


def _retry_transient_errors() -> None:
    """Have the node retry where a server is restarted or busy.

    Flower treats every error that mentions SSL as a bad certificate and ends the node,
    handshakes that timed out or were cut short by a killed server included.

    Raises:
        ConfigError: this version of Flower retries in another way.
    """
    from flwr.supernode import fleet_http_connection as connection

    inner = _flower_attribute(connection, "make_simple_http_retry_invoker")

    def make() -> Any:  # noqa: ANN401
        invoker = inner()
        gives_up = invoker.should_giveup
        invoker.should_giveup = lambda error: not is_transient(error) and gives_up(error)
        return invoker

    connection.make_simple_http_retry_invoker = make  # type: ignore[attr-defined]


def is_transient(error: Exception) -> bool:
    """Whether a failed call may succeed later: the server was slow or restarted."""
    if not isinstance(error, httpx.TransportError):
        return False
    words = ("timed out", "eof", "reset by peer", "closed")
    return any(word in str(error).lower() for word in words)


def _flower_attribute(module: Any, name: str) -> Any:  # noqa: ANN401
    attribute = getattr(module, name, None)
    if attribute is None:
        raise ConfigError(
            f"Bad installation: this Flower has no {name}, which nodes need for their checks; "
            "install flwr 1.41."
        )
    return attribute


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
