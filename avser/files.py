"""Atomic writing, local copies of inputs that are not files, and JSON files.

Files are written under a temporary name in the same folder, flushed to the disk, and renamed, so
that a reader sees the old file or the complete new one. After an error the temporary file is
removed.
"""

import json
import os
import re
import select
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

from avser.errors import AvserError, ConfigError, MediaError, StorageError

_PERMISSIONS = 0o666  # as open() asks; the temporary file is made private and then gets these
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a drive
_PIECE = 1 << 20  # bytes of one copy operation
MOST_SPOOLED = 4 << 30  # bytes of an input that is not a file; an hour of video has about a tenth


@contextmanager
def atomic_write(path: str | Path, *, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that gets its name when the block ends without an error.

    Missing folders are made. Text is UTF-8, its lines end with a line feed; file names that are
    not UTF-8 keep their bytes. A device or a pipe is written directly: it can't be replaced.
    """
    path = Path(path)
    text = {"encoding": "utf-8", "newline": "\n", "errors": "surrogateescape"}
    text = text if mode == "w" else {}
    if is_special(path):
        with open(path, mode, **text) as file:  # type: ignore[call-overload]
            yield file
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a long name would be too long with what is added; 255 bytes are legal nearly everywhere
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:50]}-", dir=path.parent)
    except OSError as error:  # of the name that was asked for, not of the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with open(handle, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, _PERMISSIONS & ~mask)
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, name):
            # such as a full disk
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def exclusive(path: str | Path) -> Iterator[None]:
    """Keep other processes of this machine from a file or folder until the block ends.

    The system ends it with the process, however that dies. Systems and file systems without such
    locks keep nobody out.

    Raises:
        StorageError: another process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    _close_locks_in_children()
    descriptor = os.open(path, os.O_RDONLY)
    _LOCKS.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                f"Can't use {path}: another process is writing it; wait until that ends, or name "
                "another place."
            ) from error
        except OSError:  # the file system has no locks
            pass
        yield
    finally:
        if descriptor in _LOCKS:  # not in a forked process, which closed its copy
            _LOCKS.remove(descriptor)
            os.close(descriptor)


_LOCKS: set[int] = set()  # open descriptors of `exclusive`


@cache
def _close_locks_in_children() -> None:
    """Have forked processes close their copies: a lock lasts until the last copy is closed.

    A loading process outlives its killed parent by seconds, and must not keep the next run out.
    """

    def close() -> None:
        while _LOCKS:
            os.close(_LOCKS.pop())

    os.register_at_fork(after_in_child=close)


def is_special(path: str | Path) -> bool:
    """Whether a path is a device, a pipe or a socket."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def expand_home(path: str | Path) -> Path:
    """Replace a leading ``~`` or ``~user`` by that folder; a name such as ``~take.wav`` stays."""
    return Path(os.path.expanduser(path))


def is_url(source: str | Path) -> bool:
    """Whether an input is an address such as ``https://...`` or ``s3://...``.

    >>> is_url("s3://bucket/clip.wav"), is_url("clips/a.wav")
    (True, False)
    """
    return _URL.match(str(source)) is not None


def store_files(name: str, *, recursive: bool = False) -> Iterator[str]:
    """Yield the addresses of a pattern's or a folder's files, or the address itself.

    Only stores have folders (``s3://``, ``gs://``, ...): an ``https://`` address is one file.

    Args:
        name: address.
        recursive: whether folders below a folder are included.

    Raises:
        MediaError: the folder or the pattern can't be listed.
        StorageError: its store can't be reached, or refuses the credential.
        ConfigError: the package for such an address is not installed.
    """
    base = name.partition("?")[0] if name.startswith(("http://", "https://")) else name
    pattern = base is name and any(mark in name for mark in "*[")
    if base is not name or name.startswith(("http://", "https://")):
        yield name
        return
    if not pattern and Path(name).suffix:
        yield name
        return
    with _store_errors(name):
        import fsspec

        store, root = fsspec.core.url_to_fs(name)
        if pattern:
            yield from (store.unstrip_protocol(path) for path in sorted(store.glob(root)))
        elif not store.isdir(root):
            yield name
        else:
            yield from _walk(store, root, recursive=recursive)


def _walk(store: Any, root: str, *, recursive: bool) -> Iterator[str]:  # noqa: ANN401 (fsspec's)
    """Files of a store's folder, sorted; then those of the folders below it."""
    for folder, _, names in store.walk(root, maxdepth=None if recursive else 1):
        for entry in sorted(names):
            if not entry.startswith("."):
                yield store.unstrip_protocol(f"{folder}/{entry}")


@contextmanager
def local_copy(
    source: str | Path,
    *,
    stopped: Callable[[], bool] = lambda: False,
    most: int = MOST_SPOOLED,
) -> Iterator[Path]:
    """Return a local file with the content of an input: the file itself, or a temporary copy.

    Standard input (``-``), pipes, devices, and addresses (``https://``, ``s3://``, ...) that fsspec
    can open are copied. The copy is removed afterwards; errors of the block name the input.

    Args:
        source: path, address, or ``-``.
        stopped: called regularly; True stops the copying.
        most: largest number of bytes.

    Raises:
        MediaError: the address or pipe can't be read, or has more than `most` bytes.
        StorageError: its store can't be reached, or refuses the credential.
        ConfigError: the package for such an address is not installed.
    """
    name = str(source)
    if name.startswith("file://"):
        from urllib.request import url2pathname

        yield Path(url2pathname(name.removeprefix("file://")))
    elif name == "-" or is_url(name) or is_special(name):
        # the suffix is kept: some formats have no other mark
        suffix = Path(name.partition("?")[0]).suffix if is_url(name) else ""
        with tempfile.NamedTemporaryFile(prefix="avser-input-", suffix=suffix[:16]) as file:
            with _opened(name) as given:
                _copy(name, given, file, stopped=stopped, most=most)
            file.flush()
            try:
                yield Path(file.name)
            except AvserError as error:  # of the input, not of the copy
                raise type(error)(str(error).replace(file.name, name)) from error
    else:
        yield Path(name)


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    """Open standard input, a pipe or an address for reading."""
    if name == "-":
        yield sys.stdin.buffer
        return
    with _store_errors(name):
        if not is_url(name):
            # not blocking, since a pipe that nobody writes to would block an interruption too
            with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
                yield file
            return
        import fsspec

        with fsspec.open(name, "rb") as file:
            yield file


@contextmanager
def _store_errors(name: str) -> Iterator[None]:
    """Convert errors of fsspec and the stores to errors of one sentence."""
    try:
        yield
    except ImportError as error:  # fsspec names the package of that kind of address
        raise ConfigError(
            f"Bad input {name}: {str(error).splitlines()[0].rstrip('.')}; run pip install "
            "'avser[scale]' for https and s3, or that package."
        ) from error
    except (MediaError, ConfigError, GeneratorExit):
        raise
    except Exception as error:  # each kind of store has its own classes of errors
        if not name.startswith(("http://", "https://")) and refuses_everything(error):
            raise StorageError(
                f"Can't read {name}: {_words(error).rstrip('.')}; check the address and the "
                "credential, then run the same command again: what is finished is kept."
            ) from error
        raise _unreadable(name, error) from error


# Codes of S3 (400 and 401 without a message are its responses to HEAD), and error classes of
# botocore, and of Google's and Azure's packages.
_REFUSALS = frozenset(
    "400 401 AccountProblem ExpiredToken ExpiredTokenException InvalidAccessKeyId InvalidToken "
    "NotSignedUp RequestExpired RequestTimeTooSkewed SignatureDoesNotMatch TokenRefreshRequired "
    "ConnectTimeoutError CredentialRetrievalError EndpointConnectionError NoCredentialsError "
    "PartialCredentialsError ProfileNotFound TokenRetrievalError UnauthorizedSSOTokenError "
    "DefaultCredentialsError RefreshError ClientAuthenticationError ClientConnectorError".split()
)


def refuses_everything(error: BaseException) -> bool:
    """Whether a store can't be reached or refuses a credential, so that no file can be read."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        if code in _REFUSALS or any(kind.__name__ in _REFUSALS for kind in type(cause).__mro__):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def _unreadable(name: str, error: Exception) -> MediaError:
    words = _words(error)
    if isinstance(error, FileNotFoundError) and is_url(name) and words != name:
        words = "there is no such file or bucket"
    words = "no server answers, or there is no such file" if words == name else words
    return MediaError(f"Can't read {name}: {words}; check the address and the rights.")


def _copy(
    name: str, given: IO[bytes], file: IO[bytes], *, stopped: Callable[[], bool], most: int
) -> None:
    """Copy all bytes, at most `most`; reads of a pipe time out, so that `stopped` is checked."""
    handle = None
    with suppress(OSError, ValueError, AttributeError):
        handle = given.fileno() if name == "-" or is_special(name) else None
    read = getattr(given, "read1", given.read)  # available bytes, without waiting for more
    total = 0
    while not stopped():
        if handle is not None and not select.select([handle], [], [], 0.5)[0]:
            continue
        piece = read(_PIECE)
        if piece is None:  # another process has read it
            continue
        if not piece:
            break
        total += len(piece)
        if total > most:
            raise MediaError(
                f"Can't read {name}: it holds more than {most} bytes; save it to a file, and name "
                "that."
            )
        file.write(piece)
    if stopped():
        raise MediaError(f"Can't read {name}: it was interrupted; start again.")
    if not total:
        raise MediaError(f"Can't read {name}: it is empty; record or send it again.")


def write_json(where: str | Path | None, content: object) -> None:
    """Write one JSON value to a file, or print it where that is "-"; None writes nothing."""
    text = json.dumps(content, indent=1)
    if where == "-":
        print(text)
    elif where is not None:
        with atomic_write(where) as file:
            file.write(text + "\n")


def append_json_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append a JSON object to a file as one line; missing folders are created.

    If the file ends with a partial line, of a process that was killed, a line break is added first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(row).encode() + b"\n"
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read a file of JSON objects, one per line; nothing if the file is missing.

    A partial line, of a process that was killed, is skipped.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue
