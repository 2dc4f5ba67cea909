"""Addresses of files in stores (``s3://``, ``https://``, ...): names, listings, local copies.

Every command reads its recordings through `local_copy`: fsspec opens the address, finds the
credential, and a bounded copy is decoded.
"""

import os
import re
import select
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, Literal

from avser.errors import AvserError, ConfigError, MediaError, StorageError
from avser.files import expand_home, is_special

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a drive
_PIECE = 1 << 20  # bytes of one copy operation
MOST_SPOOLED = 4 << 30  # bytes of an input that is not a file; an hour of video has about a tenth


def is_url(source: str | PurePath) -> bool:
    """Whether an input is an address such as ``https://...`` or ``s3://...``.

    >>> is_url("s3://bucket/clip.wav"), is_url("clips/a.wav")
    (True, False)
    """
    return _URL.match(str(source)) is not None


class Address(PurePosixPath):
    """Name of a file or folder in a store, with the parts of a path. It is not opened.

    >>> clip = Address("s3://bucket/anna/a.wav")
    >>> str(clip.parent / "b.wav"), clip.stem
    ('s3://bucket/anna/b.wav', 'a')
    """

    def __str__(self) -> str:
        """Return the address with both slashes of its scheme, of which paths keep one."""
        return _ONE_SLASH.sub(r"\1//", super().__str__())

    def is_absolute(self) -> bool:
        """Whether this is a whole address and not a part of one."""
        return is_url(self)


_ONE_SLASH = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+:)/(?!/)")


def as_path(name: str | PurePath) -> PurePath:
    """Return an address as `Address`, and anything else as a path whose ``~`` is expanded.

    Raises:
        ConfigError: an address that paths would change.
    """
    text = str(name)
    if text.startswith("file://"):
        return _path_of_uri(text)
    if not is_url(text):
        return expand_home(text)
    result = Address(text)
    if str(result) != text.rstrip("/"):
        raise ConfigError(
            f"Bad address {text}: one of its parts is empty or '.'; write a single slash between "
            "names, and %2F for a slash inside one."
        )
    return result


def _path_of_uri(text: str) -> Path:
    from urllib.request import url2pathname

    return Path(url2pathname(text.removeprefix("file://")))


def kind(path: PurePath) -> Literal["file", "folder"] | None:
    """Whether a path or an address is that of a file or a folder; None where there is neither.

    Raises:
        MediaError, StorageError, ConfigError: as `local_copy`, but for missing files.
    """
    if not isinstance(path, Address):
        here = Path(path)
        return "folder" if here.is_dir() else "file" if here.is_file() else None
    info = _info(path)
    if info is None:
        return None
    return "folder" if info.get("type") == "directory" else "file"


def _info(path: Address) -> dict[str, Any] | None:
    """What a store states about a file or folder; None where there is none."""
    name = str(path)
    with _store_errors(name):
        import fsspec

        store, below = fsspec.core.url_to_fs(name)
        try:
            result: dict[str, Any] = store.info(below)
        except FileNotFoundError as error:
            if refuses_everything(error):  # an https address without a server, too
                raise
            return None
        return result


#: Names under which stores state what changes with a file's content, the best first.
_VERSIONS = (
    "ETag", "etag", "md5Hash", "Content-MD5", "blob_id", "generation", "mtime", "LastModified",
    "last_modified", "updated", "Last-Modified", "created",
)  # fmt: skip


def version(path: Address) -> str | None:
    """Size and version of a file, as its store states them; None where it states no version.

    Raises:
        MediaError: the file is missing or can't be read.
        StorageError, ConfigError: as `local_copy`.
    """
    info = _info(path)
    if info is None:
        raise _unreadable(str(path), FileNotFoundError())
    mark = next((info[name] for name in _VERSIONS if info.get(name)), None)
    return None if mark is None else f"{info.get('size')} {mark}"


def list_folder(root: Address) -> list[Address]:
    """List the files of a store's folder and of those below it; none where it is missing.

    Hidden files and folders, and those of a Macintosh's archives, are left out.

    Raises:
        MediaError: it can't be listed.
        StorageError: its store can't be reached, or refuses the credential.
        ConfigError: web servers have no folders, or a package is not installed.
    """
    name = str(root)
    if name.startswith(("http://", "https://")):
        raise ConfigError(
            f"Bad folder {name}: web servers don't list their files; name the address of a "
            "manifest (--corpus manifest), or a bucket."
        )
    with _store_errors(name):
        import fsspec

        store, below = fsspec.core.url_to_fs(name)
        try:
            paths = [Address(path) for path in _walk(store, below, recursive=True)]
        except FileNotFoundError:
            return []
    depth = len(root.parts)
    return [p for p in paths if not any(_is_hidden(name) for name in p.parts[depth:])]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def read_bytes(path: PurePath) -> bytes:
    """Content of a path or an address.

    Raises:
        OSError: the path can't be read.
        MediaError, StorageError, ConfigError: as `local_copy`.
    """
    with local_copy(path) as file:
        return file.read_bytes()


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
    depth = None if recursive else 1
    # refreshed: a listing from earlier in this process may lack files
    for folder, _, names in store.walk(root, maxdepth=depth, on_error="raise", refresh=True):
        for entry in sorted(names):
            if not entry.startswith("."):
                yield store.unstrip_protocol(f"{folder}/{entry}")


@contextmanager
def local_copy(
    source: str | PurePath,
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
        yield _path_of_uri(name)
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
