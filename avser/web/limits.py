"""Limits of a server, and the error for each of them."""

from dataclasses import dataclass, fields
from typing import ClassVar

from avser.errors import AvserError, ConfigError


class RefusedError(AvserError):
    """A request is refused with the HTTP status ``status``."""

    status: ClassVar[int] = 400


class UnauthorisedError(RefusedError):
    """The bearer token is missing or wrong."""

    status = 401


class TooLargeError(RefusedError):
    """The upload has too many bytes."""

    status = 413


class TooLongError(RefusedError):
    """The clip lasts too long."""

    status = 422


class BusyError(RefusedError):
    """All workers are at work, and the queue before them is full.

    Args:
        message: one sentence.
        position: place in the queue that the request would have had, from 1.
    """

    status = 429

    def __init__(self, message: str, position: int = 1) -> None:
        super().__init__(message)
        self.position = position


class BrokenError(RefusedError):
    """The worker ended in the middle of a clip, or failed unexpectedly."""

    status = 500


class LateError(RefusedError):
    """There was no result in time."""

    status = 504


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server.

    Attributes:
        upload_mb: largest upload, in MB (10^6 bytes).
        duration_s: longest clip, in seconds.
        concurrency: clips that are classified at once, each in a worker process of its own.
        queue: requests that may wait for a worker.
        time_s: for a request in all: upload, waiting and work, in seconds.
    """

    upload_mb: float = 100.0
    duration_s: float = 300.0
    concurrency: int = 2
    queue: int = 16
    time_s: float = 120.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "queue" else 1e-9
            if not least <= value < float("inf"):  # nor NaN
                flag = field.name.replace("_", "-")
                raise ConfigError(
                    f"Bad {flag} {value}: expected {'0 or ' if not least else ''}more."
                )

    @property
    def upload_bytes(self) -> int:
        """Largest upload in bytes."""
        return round(self.upload_mb * 1e6)

    def too_large(self) -> TooLargeError:
        """The error of an upload over the limit."""
        return TooLargeError(
            f"Bad upload: it is larger than the {self.upload_mb:g} MB that this server takes; "
            "send a shorter or smaller clip."
        )

    def too_late(self) -> LateError:
        """The error of a request whose time is up."""
        return LateError(
            f"Timeout: no result within {self.time_s:g} s; send a shorter clip, or try again later."
        )

    def busy(self) -> BusyError:
        """The error of a request that the queue has no place for."""
        return BusyError(
            f"The server is busy: {self.concurrency} clips are processed and {self.queue} wait; "
            f"you would be number {self.queue + 1} in the queue: retry in some seconds.",
            self.queue + 1,
        )
