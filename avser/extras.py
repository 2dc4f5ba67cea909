"""Optional dependencies: what is missing, and which extra brings it."""

from importlib.util import find_spec

from avser.errors import ConfigError


def require(extra: str, *modules: str) -> None:
    """Raise, in one sentence, unless these modules are installed.

    Args:
        extra: of avser that brings them, such as ``onnx``.
        modules: top-level import names.

    Raises:
        ConfigError: one of them is missing.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Bad installation: {', '.join(missing)} is missing; run pip install 'avser[{extra}]'."
        )
