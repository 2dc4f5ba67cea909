"""The page: static files, and its settings."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avser import __version__
from avser.emotions import VOCABULARY
from avser.visualization.colours import COLOURS
from avser.web.service import Service

#: Sent with every file of the page: it runs its own scripts and reaches this server alone.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data: blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(self)",
    "Cache-Control": "no-cache",  # a new release's page is used at once
}


class PageHeaders:
    """Middleware that adds `HEADERS` to all responses outside the interface.

    Args:
        app: behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith("/v1/"):
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def add_page(app: FastAPI, service: Service) -> None:
    """Add the page to the interface, at ``/``.

    Args:
        app: the interface.
        service: whose limits the page states.
    """

    @app.get("/settings.json", include_in_schema=False)
    async def settings() -> dict[str, Any]:
        return {
            "backend": "server",
            "version": __version__,
            "colours": dict(COLOURS),
            "emotions": list(VOCABULARY),
            "duration_s": service.limits.duration_s,
            "upload_mb": service.limits.upload_mb,
        }

    # In a checkout the page's sample clips are links to those in examples/.
    folder = str(files("avser.export") / "page")
    app.mount("/", StaticFiles(directory=folder, html=True, follow_symlink=True))
    app.add_middleware(PageHeaders)
