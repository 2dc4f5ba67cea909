"""Construction of networks from plain settings, which may come from an untrusted file.

Only classes under ``avser.``, or under prefixes that the caller allows, are constructed, and only
if they subclass the base class of their slot.
"""

import importlib
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from avser.errors import AvserError, BundleError, unknown
from avser.models.encoders.base import AudioEncoder, VideoEncoder
from avser.models.fusion.base import StreamFusion
from avser.models.heads import Head
from avser.models.net import EmotionNet

SLOTS: Mapping[str, type[nn.Module]] = {
    "audio": AudioEncoder,
    "video": VideoEncoder,
    "fusion": StreamFusion,
    "head": Head,
    "audio_head": Head,
    "video_head": Head,
}

#: Prefixes of class paths in models that were written before the packages were ordered.
_MOVED = {
    "avser.frontends.": "avser.models.frontends.",
    "avser.encoders.": "avser.models.encoders.",
    "avser.fusion.": "avser.models.fusion.",
    "avser.baselines.": "avser.models.baselines.",
    "avser.heads.": "avser.models.heads.",
    "avser.augment.": "avser.training.augment.",
}


def build(spec: object, base: type[nn.Module], *, allow: Sequence[str] = ()) -> nn.Module:
    """Make one module from ``{class_path, init_args}``.

    Args:
        spec: plain settings.
        base: class that the module must be a subclass of.
        allow: further import prefixes, such as ``"mylab."``.

    Raises:
        BundleError: the class is outside the allowed prefixes, is not there, is no subclass of
            ``base``, or does not take these settings.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("class_path"), str):
        raise BundleError(f"Bad model settings {spec!r}: expected class_path and init_args.")
    path, settings = spec["class_path"], spec.get("init_args") or {}
    if not isinstance(settings, Mapping):
        raise BundleError(f"Bad settings of {path!r}: expected init_args by name.")
    if "pretrained" in settings:  # the bundle's own weights follow: fetch none, seek no file
        settings = {**settings, "pretrained": False}
    prefixes = ("avser.", *allow)
    module_name, _, name = path.rpartition(".")
    if not path.startswith(prefixes) or not module_name:
        raise BundleError(
            f"Bad class {path!r}: expected one under {', '.join(prefixes)}; if you trust it, "
            "allow its prefix by name."
        )
    _refuse_old(path)
    try:
        kind = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise BundleError(f"Bad class {path!r}: it does not exist; update avser.") from error
    if not (inspect.isclass(kind) and issubclass(kind, base)):
        raise BundleError(f"Bad class {path!r}: expected a {base.__name__} in this place.")
    hints = typing.get_type_hints(kind.__init__)
    arguments = {
        key: _argument(value, hints.get(key), path=f"{path}.{key}", allow=allow)
        for key, value in settings.items()
    }
    try:
        module: nn.Module = kind(**arguments)
    except AvserError:
        raise
    except Exception as error:  # each class has its own way to fail on what it can't be built of
        raise BundleError(f"Bad settings of {path!r}: {first_line(error)}.") from error
    return module


def _refuse_old(path: str) -> None:
    """Refuse a class path of before 0.1.0, and give the present one.

    Raises:
        BundleError: the path is one of those.
    """
    for old, new in _MOVED.items():
        if path.startswith(old):
            raise BundleError(
                f"Bad class {path!r}: it is now {new}{path.removeprefix(old)}; write that in the "
                "model's config.yaml."
            )


def first_line(error: Exception) -> str:
    """First line of an error's text without its full stop, or its kind where it has none."""
    line = (str(error).splitlines() or [""])[0].rstrip(".")
    return line or type(error).__name__


def _argument(value: object, hint: object, *, path: str, allow: Sequence[str]) -> object:
    if isinstance(value, Mapping):
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        bases = [o for o in options if inspect.isclass(o) and issubclass(o, nn.Module)]
        if len(bases) != 1:
            raise BundleError(f"Bad setting {path}: no module belongs in this place.")
        return build(value, bases[0], allow=allow)
    if isinstance(value, list):
        return tuple(_argument(v, None, path=path, allow=allow) for v in value)
    return value


def build_net(
    spec: Mapping[str, Any], emotions: Sequence[str], *, allow: Sequence[str] = ()
) -> EmotionNet:
    """Make a net from the settings of its slots.

    Raises:
        BundleError: see `build`; or a slot is unknown.
    """
    for slot in spec:
        if slot not in SLOTS:
            raise BundleError(unknown("slot", slot, SLOTS))
    parts: dict[str, Any] = {
        slot: build(spec[slot], base, allow=allow) if spec.get(slot) is not None else None
        for slot, base in SLOTS.items()
    }
    if parts["head"] is None:
        raise BundleError("Bad model settings: the head is missing.")
    try:
        return EmotionNet(**parts, emotions=tuple(emotions))
    except AvserError:
        raise
    except Exception as error:  # fusion and heads are sized here
        raise BundleError(f"Bad model settings: {first_line(error)}.") from error
