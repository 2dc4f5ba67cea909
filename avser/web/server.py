"""Interface and page as one application, and the server that runs it."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from avser.errors import ConfigError
from avser.web.api import create_api
from avser.web.job_handler import load
from avser.web.limits import Limits
from avser.web.live import add_live
from avser.web.page import add_page
from avser.web.service import Service


def create_app(service: Service, *, token: str | None = None) -> FastAPI:
    """Return interface and page as one ASGI application.

    Args:
        service: that classifies; its workers are ready.
        token: that ``/v1/`` asks for, and the page its visitor; or None.
    """
    app = create_api(service, token=token)
    add_live(app, service, token=token)
    add_page(app, service)
    return app


def open_service(*, model: str | None, device: str, limits: Limits) -> Service:
    """Start workers with a model, and wait until they are ready.

    Raises:
        AvserError: the model can't be loaded.
    """
    threads = max(1, (os.cpu_count() or 1) // limits.concurrency)
    make = partial(load, model=model, device=device, threads=threads)
    service = Service(make, limits=limits, folder=Path(tempfile.mkdtemp(prefix="avser-serve-")))
    try:
        service.workers.wait()
    except BaseException:
        service.close()
        raise
    return service


def listen_at(host: str, port: int) -> socket.socket:
    """Take an address, before anything is loaded.

    Raises:
        ConfigError: it can't be bound.
    """
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"Bad port {port}: expected 0 to 65535; choose another --port.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"Bad address {host}:{port}: {error}; choose another --host or --port."
        ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host's name or address."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def serve(service: Service, at: socket.socket, *, token: str | None = None) -> None:
    """Serve until interrupted; then nothing is left of uploads.

    Args:
        service: that classifies; its workers are ready, and are ended here.
        at: where to listen, from `listen_at`.
        token: see `create_app`.
    """
    import uvicorn

    tempfile.tempdir = str(service.folder)  # of all that libraries write while they read uploads
    try:
        config = uvicorn.Config(
            create_app(service, token=token),
            log_level="warning",
            timeout_graceful_shutdown=2,  # pages keep a connection open
        )
        uvicorn.Server(config).run(sockets=[at])
    finally:
        service.close()
