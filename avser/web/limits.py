"""What a server takes on, and the one sentence for each thing that it does not."""

from dataclasses import dataclass, fields
from typing import ClassVar

from avser.errors import AvserError, ConfigError


class RefusedError(AvserError):
    """A request is not answered; ``status`` is the HTTP status that says so."""

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
    """All workers are at work, and the queue before them is full."""

    status = 429


class BrokenError(RefusedError):
    """The worker ended in the middle of a clip, or failed in a way that nobody foresaw."""

    status = 500


class LateError(RefusedError):
    """The answer was not there in time."""

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
            if value < least:
                flag = field.name.replace("_", "-")
                raise ConfigError(
                    f"Bad {flag} {value}: expected {'0 or ' if not least else ''}more."
                )

    @property
    def upload_bytes(self) -> int:
        """Largest upload in bytes."""
        return round(self.upload_mb * 1e6)

    def too_large(self) -> TooLargeError:
        """Say that an upload is over the limit."""
        return TooLargeError(
            f"Bad upload: it is larger than the {self.upload_mb:g} MB that this server takes; "
            "send a shorter or smaller clip."
        )

    def too_late(self) -> LateError:
        """Say that time is up."""
        return LateError(
            f"Bad timing: the answer was not there within {self.time_s:g} s; send a shorter clip, "
            "or try again later."
        )

    def busy(self) -> BusyError:
        """Say that the queue is full."""
        return BusyError(
            f"Bad moment: {self.concurrency} clips are at work and {self.queue} wait; try again "
            "in some seconds."
        )
