"""Flower's SuperLink in this process: registered keys and the run of the apps.

One port serves the clients, under ``/v1/fleet``. On the same port Flower accepts control requests
without a password: registering nodes and starting apps. Those are accepted from this machine alone.
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


def restrict_to_fleet(app: App) -> App:
    """Refuse requests of other machines outside of ``/v1/fleet/``."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        client = (scope.get("client") or ("",))[0]
        own = client in ("127.0.0.1", "::1")
        if scope["type"] == "http" and not own and not scope["path"].startswith(_PUBLIC):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"not from outside\n"})
            return
        await app(scope, receive, send)

    return guarded


def unavailable_until(
    app: App, ready: Callable[[], bool], register_keys: Callable[[], None]
) -> App:
    """Return 503 until the keys are registered: Flower's nodes end where they are refused.

    Nodes retry after a 503. Once the keys are known, they are read again whenever a node asks to
    join, and the node retries where that fails.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        public = scope["type"] == "http" and scope["path"].startswith(_PUBLIC)
        available = not public or ready()
        if public and available and scope["path"] == _JOIN:
            try:
                await asyncio.to_thread(
                    register_keys
                )  # it calls this server, which must go on serving
            except AvserError:
                available = False
        if not available:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"not ready, retry\n"})
            return
        await app(scope, receive, send)

    return guarded


@contextmanager
def _as_busy() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise AvserError(
            f"Busy server: Flower did not answer a control request ({error!r}); it is sent again."
        ) from error


class Link:
    """A SuperLink, its database in the run folder, and the run of our apps.

    Args:
        folder: of the run.
        host: to listen at.
        port: to listen at.
        secrets: folder of `avser.federated.deployment.keys`; None is without TLS and node keys.
        registered: called with the name of each client whose key is registered.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str,
        port: int,
        secrets: Path | None,
        registered: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.folder, self.host, self.port, self.secrets = folder.resolve(), host, port, secrets
        self._registered = registered
        self._known: dict[str, int] = {}
        self._bad: dict[str, str] = {}  # unreadable keys, each logged once
        self._registering = threading.Lock()
        self._run_id: int | None = None
        self._ready = secrets is None  # else when the keys are registered
        if secrets is not None and not (secrets / keys.CERTIFICATE).is_file():
            raise ConfigError(
                f"Bad keys {secrets}: there is no {keys.CERTIFICATE}; make them with avser "
                f"federate keys server --out {secrets}, or give --insecure."
            )

    # -- the server --------------------------------------------------------------------------

    def start(self) -> None:
        """Serve in a thread; return when the server is ready.

        Raises:
            ConfigError: it is not ready within a minute.
        """
        prepare(self.folder / "flower", os.environ)
        os.environ[FEDERATION] = str(self.folder)
        logging.getLogger("flwr").setLevel(logging.WARNING)
        flower = create_app(self._config(), SuperLinkLifespan)
        app = restrict_to_fleet(unavailable_until(flower, lambda: self._ready, self.register_keys))
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

    def register_keys(self) -> None:
        """Register new keys in ``clients/`` and unregister those that were removed.

        A file without a key is logged once and read again when it changes: it may be half copied.

        Raises:
            AvserError: Flower's register did not answer in time; call again.
        """
        if self.secrets is not None:  # else every client may connect
            with self._registering, _as_busy():
                self._register_all(self.secrets)

    def _register_all(self, secrets: Path) -> None:
        files = {p.stem: p for p in sorted((secrets / keys.CLIENTS).glob("*.pub"))}
        new = {n: key for n in files.keys() - self._known.keys() if (key := self._key(files[n]))}
        if new:
            listed = self._client.ListNodes(ListNodesRequest()).nodes_info
            nodes = {n.public_key: n for n in listed}
            for name, key in sorted(new.items()):
                self._register(name, key, nodes.get(key))
        for name in self._known.keys() - files.keys():
            if self._known[name]:
                request = UnregisterNodeRequest(node_id=self._known[name])
                self._client.UnregisterNode(request)
            del self._known[name]
        self._ready = True

    def _register(self, name: str, key: bytes, node: NodeInfo | None) -> None:
        if node is not None and node.status == NodeStatus.UNREGISTERED:
            _log.warning(
                "Bad public key %s.pub: it was removed before and stays refused; make another "
                "with avser federate keys client.",
                name,
            )
            self._known[name] = 0
            return
        if node is None:
            request = RegisterNodeRequest(public_key=key, name=name)
            self._known[name] = self._client.RegisterNode(request).node_id
        else:  # registered before this server's restart
            self._known[name] = node.node_id
        self._registered(name)

    def _key(self, path: Path) -> bytes | None:
        """Read a public key; return None, and log the reason once, if the file holds none."""
        try:
            return keys.read_public(path)
        except ConfigError as error:
            if self._bad.get(path.stem) != str(error):
                _log.warning("%s", error)
                self._bad[path.stem] = str(error)
            return None

    # -- the run -----------------------------------------------------------------------------

    def ensure_run(self) -> None:
        """Start the run of our apps, if there is none; runs from before a restart are stopped.

        Raises:
            AvserError: Flower did not answer in time; call again.
        """
        with _as_busy():
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
