"""Flower app bundle without code: it names functions that clients have installed.

Flower's nodes run whatever app the server sends. Ours is a settings file that names
`avser.federated.deployment.apps`; a client compares it with its own and runs nothing else.
"""

import hashlib
import io
import warnings
import zipfile

from flwr.cli.build import build_fab_from_files

from avser import __version__
from avser.errors import ConfigError

_TEXT = f"""[build-system]
requires = []

[project]
name = "avser-federation"
version = "{__version__}"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "avser"

[tool.flwr.app.components]
serverapp = "avser.federated.deployment.apps:server_app"
clientapp = "avser.federated.deployment.apps:client_app"

[tool.flwr.app.config]
"""


def app_bundle() -> tuple[str, bytes]:
    """Return hash and bytes of the app, as Flower packs it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how Flower names file patterns
        content, _ = build_fab_from_files({"pyproject.toml": _TEXT.encode()})
    return hashlib.sha256(content).hexdigest(), content


def check_app(content: bytes) -> None:
    """Refuse an app that is not this one.

    Raises:
        ConfigError: the server sent another app.
    """
    if _files(content) != _files(app_bundle()[1]):
        raise ConfigError(
            "Bad server: it sends an app that is not this avser's, and nothing of it was run; "
            f"install the server's version of avser (this one is {__version__}), or leave."
        )


def _files(content: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if sum(i.file_size for i in packed.infolist()) > 1 << 20:
                return {}
            return {i.filename: packed.read(i) for i in packed.infolist()}
    except (zipfile.BadZipFile, OSError, ValueError):
        return {}
