"""``avser federate server`` whose clients train in a thread of its own process.

Rounds, events, releases and signals are the command's own. What is left out makes a start of the
real one take many seconds: Flower's processes, the HTTP API and its worker.
"""

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from avser.cli import main as run_command
from avser.cli.federate import server as command
from avser.federated.client.app import make_client_app
from avser.federated.client.data import FolderClient
from avser.federated.deployment import apps
from avser.federated.deployment.flower_commands import FEDERATION
from avser.federated.plan import Plan
from avser.federated.server import link, releases
from avser.federated.server.app import make_server_app
from avser.federated.server.releases import LatestRelease
from avser.federated.session import Session
from avser.federated.simulation.grid import InProcessGrid

CLIENTS = "CLIENTS"  # environment variable: folder of the clients' folders


#: Training and evaluation draw from torch's one generator, so that they must not overlap.
TURN = threading.Lock()


class OneByOne(InProcessGrid):
    """Clients train while no release is evaluated."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Any]:
        with TURN:
            return super().pull_messages(message_ids)


class WaitingRelease(LatestRelease):
    """Releases are evaluated while no client trains."""

    def refresh(self) -> bool:
        with TURN:
            return super().refresh()


class ThreadLink:
    """Stands for `avser.federated.server.link.Link`."""

    def __init__(self, folder: Path, **_: object) -> None:
        self.folder = folder
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        os.environ[FEDERATION] = str(self.folder)

    def register_keys(self) -> None:
        """There are none."""

    def ensure_run(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        folders = sorted(Path(os.environ[CLIENTS]).iterdir())

        def data_of(context: Any, plan: Plan) -> Any:
            folder = folders[int(str(context.node_config["partition-id"]))]
            return FolderClient(folder, name=folder.name, make_data=apps._data)(context, plan)

        def session_of(context: Any) -> Session:
            session = apps._session(context)
            session.stopped = self._stopped.is_set
            return session

        def done(server: Any) -> None:
            if not self._stopped.is_set():
                apps._done(server)

        grid = OneByOne(make_client_app(data_of), nodes=len(folders))
        make_server_app(session_of, done)(grid, grid.server_context())


def main(words: Sequence[str]) -> int:
    """Run ``avser`` with this link, without its pauses and its HTTP API."""
    link.Link = ThreadLink  # type: ignore[assignment,misc]
    releases.LatestRelease = WaitingRelease  # type: ignore[misc]
    command._POLL_S = 0.01
    command._start_api = lambda own, release: lambda: None
    return run_command(words)


__all__ = ["CLIENTS", "main"]
