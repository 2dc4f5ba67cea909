"""Live classification over a WebSocket: sound and pictures in, a prediction a step out.

The client sends one JSON message ``{"token": ...}``, then sound as binary messages (16 bits,
signed, little-endian, one channel, 16 kHz) and pictures as ``{"picture": "<base64 of a JPEG>"}``.
It receives an object a step of 0.512 s, or ``{"error": ...}`` and the end of the connection.
Pictures are decoded by a worker process alone.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from avser.errors import AvserError
from avser.inference.live_window import LiveBuffer, LiveWindow
from avser.web.jobs import ClassifyLive
from avser.web.limits import BusyError, RefusedError, UnauthorisedError
from avser.web.request_limiter import content_of
from avser.web.service import Service

_STEP_DEADLINE_S = 20.0
_MOST_SOUND = 64 * 1024  # bytes of a message: two seconds
_MOST_PICTURE = 512 * 1024
_POLICY_VIOLATION = 1008


class LiveMessageError(RefusedError):
    """A message is not as the protocol says."""

    status = 422


def add_live(app: FastAPI, service: Service, *, token: str | None) -> None:
    """Add ``/v1/live`` to the interface.

    Args:
        app: the interface.
        service: whose workers classify; as many sessions may be open as it has workers.
        token: that a session's first message must have, or None.
    """
    sessions: set[_Session] = set()

    @app.websocket("/v1/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        session = _Session(socket, service)
        try:
            await session.check(token)
            if len(sessions) >= service.limits.concurrency:
                raise BusyError(
                    f"The server is busy: {len(sessions)} live sessions are open, which is all "
                    "that it takes; try again later."
                )
            sessions.add(session)
            await session.run()
        except AvserError as error:
            with suppress(RuntimeError, WebSocketDisconnect):  # the client may be gone
                await socket.send_json(content_of(error))
                await socket.close(_POLICY_VIOLATION)
        except WebSocketDisconnect:
            return
        finally:
            sessions.discard(session)


class _Session:
    """One connection; a step that comes while another is classified replaces one that waits."""

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self._socket, self._service = socket, service
        self._buffer = LiveBuffer()
        self._waiting: LiveWindow | None = None
        self._come = asyncio.Event()

    async def check(self, token: str | None) -> None:
        """Refuse another site's page, and a wrong token."""
        headers = self._socket.headers
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise UnauthorisedError(
                f"Bad origin {origin}: only this server's own page may connect."
            )
        given = str(_object(await self._socket.receive_text()).get("token", ""))
        if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
            raise UnauthorisedError('Bad token: send {"token": TOKEN} as the first message.')

    async def run(self) -> None:
        """Receive and classify until the client goes."""
        async with asyncio.TaskGroup() as tasks:
            classifying = tasks.create_task(self._classify())
            try:
                while True:
                    self._take(await self._socket.receive())
            except WebSocketDisconnect:
                classifying.cancel()
            except AvserError as error:
                classifying.cancel()
                await self._socket.send_json(content_of(error))
                await self._socket.close(_POLICY_VIOLATION)

    def _take(self, message: Any) -> None:  # noqa: ANN401 (an ASGI message)
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        sound = message.get("bytes")
        if sound is None:
            self._buffer.add_frame(_picture(message.get("text") or ""))
            return
        if len(sound) > _MOST_SOUND or len(sound) % 2:
            raise LiveMessageError(
                f"Bad sound of {len(sound)} bytes: expected 16-bit samples, at most {_MOST_SOUND}."
            )
        samples = np.frombuffer(sound, "<i2").astype(np.float32) / np.float32(32768)
        for window in self._buffer.push(samples):
            self._waiting = window
            self._come.set()

    async def _classify(self) -> None:
        while True:
            await self._come.wait()
            self._come.clear()
            window, self._waiting = self._waiting, None
            if window is None:
                continue
            deadline = time.monotonic() + _STEP_DEADLINE_S
            with suppress(AvserError):  # a step that failed is left out
                step = await self._service.workers.ask(
                    ClassifyLive(window=window, folder=self._service.folder), deadline=deadline
                )
                self._buffer.keep_detections(step.frames)
                await self._socket.send_json(step.to_dict())


def _object(text: str) -> dict[str, Any]:
    try:
        result = json.loads(text)
    except ValueError:
        result = None
    if not isinstance(result, dict):
        raise LiveMessageError("Bad message: expected a JSON object, or sound in binary.")
    return result


def _picture(text: str) -> bytes:
    try:
        picture = base64.b64decode(_object(text).get("picture", ""), validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise LiveMessageError("Bad picture: expected a JPEG in base64.") from error
    if not 0 < len(picture) <= _MOST_PICTURE:
        raise LiveMessageError(
            f"Bad picture of {len(picture)} bytes: expected at most {_MOST_PICTURE}."
        )
    return picture
