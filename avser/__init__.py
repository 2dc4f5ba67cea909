"""avser recognises emotion in clips of people speaking, from the voice, the face, or both.

The public names load on first use (PEP 562), so that ``import avser`` costs nothing.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "AvserError",
    "Clip",
    "Corpus",
    "Prediction",
    "Predictor",
    "StreamingPredictor",
    "__version__",
]

_HOMES = {
    "AvserError": "avser.errors",
    "Clip": "avser.types",
    "Corpus": "avser.types",
    "Prediction": "avser.types",
    "Predictor": "avser.inference.predictor",
    "StreamingPredictor": "avser.inference.streaming",
}

if TYPE_CHECKING:
    from avser.errors import AvserError
    from avser.inference.predictor import Predictor
    from avser.inference.streaming import StreamingPredictor
    from avser.types import Clip, Corpus, Prediction


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'avser' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
