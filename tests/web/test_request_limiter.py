"""Request limiter, given requests that no usual client makes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from avser.web.limits import Limits
from avser.web.request_limiter import Receive, RequestLimiter, Scope, Send

Message = MutableMapping[str, Any]
HALF = b"x" * 60_000  # with what a form may have around it, three of them are over the limit


class Places:
    """A service without workers."""

    def __init__(self, *, time_s: float = 5.0) -> None:
        self.limits, self.workers, self.taken = Limits(upload_mb=0.1, time_s=time_s), self, 0

    def deadline(self) -> float:
        return time.monotonic() + self.limits.time_s

    @contextmanager
    def place(self) -> Iterator[None]:
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


async def reader(scope: Scope, receive: Receive, send: Send) -> None:
    """Read it all, and make of any error what frameworks make of it."""
    code = 200
    try:
        while (await receive()).get("more_body"):
            pass
    except Exception:
        code = 400
    await send({"type": "http.response.start", "status": code, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


class Caller:
    """Sends parts of a body, and keeps what comes back."""

    def __init__(self, *parts: bytes | None, **service: Any) -> None:
        self.service, self.read, self.sent = Places(**service), 0, []
        self._parts = self._come(parts)

    async def _come(self, parts: tuple[bytes | None, ...]) -> AsyncIterator[Message]:
        for i, part in enumerate(parts, 1):
            if part is None:
                await asyncio.sleep(60)  # the line is dead
            self.read = i
            more = i < len(parts)
            yield {"type": "http.request", "body": part or b"", "more_body": more}

    async def receive(self) -> Message:
        return await anext(self._parts)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def __call__(self, path: str = "/v1/classify", **headers: str) -> tuple[int, dict[str, Any]]:
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
        }
        gate = RequestLimiter(reader, service=self.service)  # type: ignore[arg-type]
        asyncio.run(gate(scope, self.receive, self.send))
        return self.sent[0]["status"], json.loads(self.sent[1]["body"])


def test_body_within_the_limit_passes() -> None:
    assert Caller(HALF, HALF)() == (200, {})


def test_body_over_the_limit_is_refused_whatever_the_application_makes_of_it() -> None:
    caller = Caller(HALF, HALF, HALF, HALF)
    status, answer = caller()
    assert (status, answer["error"]["type"]) == (413, "TooLargeError")
    assert caller.read == 4  # the rest was thrown away, so that the client reads the answer
    assert len(caller.sent) == 2 and caller.service.taken == 0


def test_page_keeps_the_same_limit() -> None:
    assert Caller(HALF, HALF, HALF)("/upload")[0] == 413


def test_stated_size_is_refused_without_an_end_to_what_is_thrown_away() -> None:
    caller = Caller(*[HALF] * 100)
    assert caller(content_length=str(100 * len(HALF)))[0] == 413
    assert caller.read < 10


def test_upload_that_stops_is_given_up_in_time() -> None:
    began = time.monotonic()
    status, answer = Caller(HALF, None, time_s=0.2)()
    assert (status, answer["error"]["type"]) == (504, "LateError")
    assert time.monotonic() - began < 2
