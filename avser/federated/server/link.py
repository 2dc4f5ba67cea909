"""Flower's SuperLink in this process: who may connect, what runs, and that it goes on.

One port speaks to the world, under ``/v1/fleet``. On the same port Flower takes orders, without a
password: who may register nodes and which app runs. Those are answered to this machine alone.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from flwr.common.constant import ISOLATION_MODE_SUBPROCESS, TRANSPORT_TYPE_GRPC_RERE
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.constant import NodeStatus
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig, load_control_authn_plugin
from flwr.superlink.main import create_app

from avser.errors import AvserError, ConfigError
from avser.federated.deployment import keys
from avser.federated.deployment.app_bundle import app_bundle
from avser.federated.deployment.flower_commands import FEDERATION, prepare

_START_S = 60.0
_PUBLIC = "/v1/fleet/"
_JOIN = "/v1/fleet/activate-node"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)


def only_nodes_from_outside(app: App) -> App:
    """Answer other machines under ``/v1/fleet/`` alone."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        client = (scope.get("client") or ("",))[0]
        own = client in ("127.0.0.1", "::1")
        if scope["type"] == "http" and not own and not scope["path"].startswith(_PUBLIC):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"not from outside\n"})
            return
        await app(scope, receive, send)

    return guarded


def closed_until(app: App, opened: Callable[[], bool], admit: Callable[[], None]) -> App:
    """Refuse no node whose key is there: Flower's nodes end where they are refused.

    Until who may come is known, nodes are told to come again; after that, the keys are looked at
    whenever a node asks to join, which comes again where they can't be.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        public = scope["type"] == "http" and scope["path"].startswith(_PUBLIC)
        ready = not public or opened()
        if public and ready and scope["path"] == _JOIN:
            try:
                await asyncio.to_thread(admit)  # it asks this server, which must go on answering
            except AvserError:
                ready = False
        if not ready:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"not yet\n"})
            return
        await app(scope, receive, send)

    return guarded


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise AvserError(
            f"Busy server: Flower did not answer an order ({error!r}); it is given again."
        ) from error


class Link:
    """A SuperLink, its database in the run folder, and the run of our apps.

    Args:
        folder: of the run.
        host: to listen at.
        port: to listen at.
        secrets: folder of `avser.federated.deployment.keys`; None is without TLS and node keys.
        admitted: called with the name of each client that is let in.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str,
        port: int,
        secrets: Path | None,
        admitted: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.folder, self.host, self.port, self.secrets = folder.resolve(), host, port, secrets
        self._admitted = admitted
        self._known: dict[str, int] = {}
        self._bad: dict[str, str] = {}  # what could not be read, so that it is told once
        self._admitting = threading.Lock()
        self._run_id: int | None = None
        self._opened = secrets is None  # nodes are let in when their keys are registered
        if secrets is not None and not (secrets / keys.CERTIFICATE).is_file():
            raise ConfigError(
                f"Bad keys {secrets}: there is no {keys.CERTIFICATE}; make them with avser "
                f"federate keys server --out {secrets}, or say --insecure."
            )

    # -- the server --------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, in a thread; return when it answers.

        Raises:
            ConfigError: it does not within a minute.
        """
        prepare(self.folder / "flower", os.environ)
        os.environ[FEDERATION] = str(self.folder)
        logging.getLogger("flwr").setLevel(logging.WARNING)
        flower = create_app(self._config(), SuperLinkLifespan)
        app = only_nodes_from_outside(closed_until(flower, lambda: self._opened, self.admit))
        settings = uvicorn.Config(
            app,
            host=self.host,
            port=self.port,
            log_level="warning",
            ssl_certfile=self._file(keys.CERTIFICATE),
            ssl_keyfile=self._file(keys.KEY),
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, daemon=True, name="superlink")
        self._thread.start()
        end = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise ConfigError(
                    f"Bad address {self.host}:{self.port}: the server did not start there; choose "
                    "another --host or --port."
                )
            time.sleep(0.1)
        self._client = self._control()

    def _file(self, name: str) -> str | None:
        return str((self.secrets / name).resolve()) if self.secrets is not None else None

    def _config(self) -> SuperLinkLifespanConfig:
        secrets = self.secrets
        names = (keys.CA, keys.CERTIFICATE, keys.KEY)
        read = tuple((secrets / n).read_bytes() for n in names) if secrets is not None else None
        return SuperLinkLifespanConfig(
            control_address="",
            health_server_address=None,
            host=self.host,
            port=self.port,
            insecure=secrets is None,
            certificates=read,  # type: ignore[arg-type]
            superexec_auth_secret=None,
            authn_plugin=load_control_authn_plugin(),
            event_log_plugin=None,
            fleet_event_log_plugin=None,
            enable_event_log=False,
            artifact_provider=None,
            enable_supernode_auth=secrets is not None,
            fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
            fleet_api_address=None,
            simulation=False,
            ssl_ca_certfile=self._file(keys.CA),
            ssl_certfile=self._file(keys.CERTIFICATE),
            ssl_keyfile=self._file(keys.KEY),
            database=str(self.folder / "flower" / "state.db"),
            isolation=ISOLATION_MODE_SUBPROCESS,
            runtime_dependency_install=False,
        )

    def _control(self) -> ControlHttpClient:
        ca = self._file(keys.CA)
        return ControlHttpClient.from_server_address(
            f"127.0.0.1:{self.port}",
            insecure=ca is None,
            root_certificates=ca,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-cli")],
        )

    def stop(self) -> None:
        """End the run and the server."""
        with suppress(httpx.HTTPError):
            self._stop_runs()
        self._server.should_exit = True
        self._thread.join(timeout=10)

    # -- nodes -------------------------------------------------------------------------------

    def admit(self) -> None:
        """Register the keys in ``clients/`` that are new and remove those that are gone.

        A file that holds no key is told once and read again when it changes: it may be half copied.

        Raises:
            AvserError: Flower's register did not answer in time; call again.
        """
        if self.secrets is not None:  # else whoever connects is taken
            with self._admitting, _answered():
                self._admit(self.secrets)

    def _admit(self, secrets: Path) -> None:
        there = {p.stem: p for p in sorted((secrets / keys.CLIENTS).glob("*.pub"))}
        new = {n: key for n in there.keys() - self._known.keys() if (key := self._key(there[n]))}
        if new:
            listed = self._client.ListNodes(ListNodesRequest()).nodes_info
            nodes = {n.public_key: n for n in listed}
            for name, key in sorted(new.items()):
                self._let_in(name, key, nodes.get(key))
        for name in self._known.keys() - there.keys():
            if self._known[name]:
                request = UnregisterNodeRequest(node_id=self._known[name])
                self._client.UnregisterNode(request)
            del self._known[name]
        self._opened = True

    def _let_in(self, name: str, key: bytes, node: NodeInfo | None) -> None:
        if node is not None and node.status == NodeStatus.UNREGISTERED:
            _log.warning(
                "Bad public key %s.pub: it was taken away before and stays refused; make another "
                "with avser federate keys client.",
                name,
            )
            self._known[name] = 0
            return
        if node is None:
            request = RegisterNodeRequest(public_key=key, name=name)
            self._known[name] = self._client.RegisterNode(request).node_id
        else:  # in an earlier life of this server
            self._known[name] = node.node_id
        self._admitted(name)

    def _key(self, path: Path) -> bytes | None:
        """The public key in a file, or None; why it is none is told once."""
        try:
            return keys.read_public(path)
        except ConfigError as error:
            if self._bad.get(path.stem) != str(error):
                _log.warning("%s", error)
                self._bad[path.stem] = str(error)
            return None

    # -- the run -----------------------------------------------------------------------------

    def ensure_run(self) -> None:
        """Start our app's run, if there is none; runs of an earlier life are stopped.

        Raises:
            AvserError: Flower did not answer in time; call again.
        """
        with _answered():
            self._ensure_run()

    def _ensure_run(self) -> None:
        if self._run_id is not None:
            runs = self._client.ListRuns(ListRunsRequest(run_id=self._run_id)).run_dict
            status = runs[self._run_id].status.status if self._run_id in runs else "finished"
            if status != "finished":
                return
        else:
            self._stop_runs()
        digest, content = app_bundle()
        request = StartRunRequest(fab=fab_to_proto(Fab(digest, content, {})))
        self._run_id = self._client.StartRun(request).run_id

    def _stop_runs(self) -> None:
        for run_id, run in self._client.ListRuns(ListRunsRequest()).run_dict.items():
            if run.status.status != "finished":
                with suppress(httpx.HTTPStatusError):
                    self._client.StopRun(StopRunRequest(run_id=run_id))
