"""Middleware for limits before and during the reading of a request: token, queue, size, time."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import ExitStack
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from avser.errors import AvserError
from avser.web.limits import BusyError, RefusedError, UnauthorisedError
from avser.web.service import Service

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_FORM_BYTES = 64 * 1024  # what a form has around its file
_API = "/v1/"


def refusal(error: AvserError, *, path: str | None = None, status: int = 422) -> JSONResponse:
    """The response of a refused request: an error as ``avser classify --json`` writes it."""
    status = error.status if isinstance(error, RefusedError) else status
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}
    return JSONResponse(content_of(error, path=path), status, headers.get(status))


def content_of(error: AvserError, *, path: str | None = None) -> dict[str, Any]:
    """The body of a refused request; a full queue adds the position that it would have had."""
    content = {"type": type(error).__name__, "message": str(error)}
    position = {"position": error.position} if isinstance(error, BusyError) else {}
    return {"path": path, "error": content | position}


class RequestLimiter:
    """Middleware that refuses before it reads, and stops reading at the limits.

    The interface's requests need the token, if there is one, and take a place in the queue until
    the response is sent; the page checks both itself.

    Args:
        app: behind it.
        service: whose places and limits these are.
        token: bearer token, or None.
    """

    def __init__(self, app: App, *, service: Service, token: str | None = None) -> None:
        self.app, self.service, self.token = app, service, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, posts = Headers(scope=scope), scope["method"] == "POST"
        ours = scope["path"].startswith(_API)
        deadline = self.service.deadline()
        scope.setdefault("state", {})["deadline"] = deadline
        body = _Body(receive, self.service, deadline) if posts else None
        began = False

        async def checked_send(message: MutableMapping[str, Any]) -> None:
            nonlocal began
            if body is not None and body.refused is not None:
                raise body.refused  # instead of the framework's own response
            began = True
            await send(message)

        try:
            with ExitStack() as stack:
                if ours:
                    self._check_token(headers)
                if ours and posts:
                    stack.enter_context(self.service.workers.place())
                if body is not None:
                    body.expect(headers.get("content-length"))
                await self.app(scope, body or receive, checked_send)
        except RefusedError as error:
            if began:
                raise
            if body is not None:
                await body.drain()
            await refusal(error)(scope, receive, send)

    def _check_token(self, headers: Headers) -> None:
        if self.token is None:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(
            given.strip().encode("latin-1"), self.token.encode()
        ):
            raise UnauthorisedError(
                "Bad token: this server asks for one; send the header Authorization: Bearer TOKEN."
            )


class _Body:
    """The body of a request, read up to a size and a time.

    Attributes:
        refused: why it is not read on, or None.
    """

    def __init__(self, receive: Receive, service: Service, deadline: float) -> None:
        self._receive, self._limits, self._deadline = receive, service.limits, deadline
        self._most = service.limits.upload_bytes + _FORM_BYTES
        self._read, self._more = 0, True
        self.refused: RefusedError | None = None

    def expect(self, stated: str | None) -> None:
        """Refuse at once what is stated to be too large."""
        if stated is not None and stated.isdigit() and int(stated) > self._most:
            raise self._limits.too_large()

    async def __call__(self) -> MutableMapping[str, Any]:
        """Receive the next part."""
        if not self._more:  # waiting for the end of the connection may take any time
            return await self._receive()
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            self._more, self.refused = False, self._limits.too_late()
            raise self.refused from None
        self._read += len(message.get("body", b""))
        self._more = bool(message.get("more_body", False))
        if self._read > self._most:
            self.refused = self._limits.too_large()
            raise self.refused
        return message

    async def drain(self) -> None:
        """Read and discard some more: many clients read the response only after sending."""
        most = self._read + self._most
        try:
            async with asyncio.timeout(max(0.0, min(10.0, self._deadline - time.monotonic()))):
                while self._more and self._read <= most:
                    message = await self._receive()
                    self._read += len(message.get("body", b""))
                    self._more = bool(message.get("more_body", False))
        except TimeoutError:
            return
