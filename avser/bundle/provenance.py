"""Training data of a model, and the checked text files of a bundle. Loads no torch."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from avser.errors import BundleError
from avser.types import Clip

_MAX_CONFIG = 1 << 20
_NO_NAME = frozenset("/\\")
_LONGEST_NAME = 100  # characters; some file systems have room for 255 bytes


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Training data of a model.

    Attributes:
        corpora: names.
        speakers: of the training and validation parts.
        sexes: number of those speakers of each sex, where it is known.
        languages: spoken in the corpora, where they are known.
        digests: hashes of those parts' decoded recordings.
        label_target, licence, split, split_hash: of the data.
        merge: classes that were merged into others, for instance ``{"calm": "neutral"}``.
        seed, epochs: of the training; ``epochs`` counts those run, not the one chosen.
        commit: of the code.
    """

    corpora: Sequence[str] = ()
    speakers: Sequence[str] = ()
    sexes: Mapping[str, int] = field(default_factory=dict)
    languages: Sequence[str] = ()
    digests: Sequence[str] = ()
    label_target: str = "acted"
    licence: str = ""
    split: str = ""
    split_hash: str = ""
    merge: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    epochs: int | None = None
    commit: str | None = None


def check_name(name: str) -> str:
    """Return the name of a model, if it is legal: it stands in tables, cards, paths and addresses.

    Raises:
        BundleError: it is empty, a path, too long, or has control characters.
    """
    if (
        not name.strip()
        or name != name.strip()
        or name.startswith(("-", "."))
        or len(name) > _LONGEST_NAME
        or not name.isprintable()
        or not _NO_NAME.isdisjoint(name)
    ):
        shown = name if len(name) <= _LONGEST_NAME else f"{name[:20]}... of {len(name)} characters"
        raise BundleError(
            f"Bad model name {shown!r}: legal are 1 to {_LONGEST_NAME} printable characters "
            "without / and \\, and no dot, dash or space in front; give another --name."
        )
    return name


def speakers_by_sex(clips: Iterable[Clip], speakers: Collection[str]) -> dict[str, int]:
    """Count speakers of each sex; {} where the clips do not give every speaker's."""
    sexes = {clip.speaker: clip.sex for clip in clips if clip.speaker and clip.sex}
    if not set(speakers) <= set(sexes):
        return {}
    return dict(sorted(Counter(sexes[speaker] for speaker in speakers).items()))


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check ``config.yaml``.

    Raises:
        BundleError: it is missing, no plain YAML, or lacks a key that every bundle has.
    """
    config = _read_yaml(folder / "config.yaml")
    checks = {
        "name": (_is_text, "a name"),
        "emotions": (_is_classes, "a list of two or more different names"),
        "net": (_is_mapping, "settings by name"),
        "parameters": (_is_count, "a whole number above 0"),
    }
    for key, (is_legal, legal) in checks.items():
        if not is_legal(config.get(key)):
            raise _bad(folder, "config.yaml", key, config.get(key), legal)
    figures = config.get("figures")
    if figures is not None and not _is_mapping(figures):
        raise _bad(folder, "config.yaml", "figures", figures, "figures by name")
    uar = (figures or {}).get("uar")
    if uar is not None and not _is_figure(uar):
        raise _bad(folder, "config.yaml", "figures.uar", uar, "a value with its interval")
    return config


def read_provenance(folder: Path) -> Provenance:
    """Read and check ``trained_on.yaml`` and ``digests.txt``.

    Raises:
        BundleError: one is no plain text of its kind, or a value has another type.
    """
    trained = _read_yaml(folder / "trained_on.yaml")
    known = {name: trained[name] for name in Provenance.__dataclass_fields__ if name in trained}
    for name, value in known.items():
        is_legal, legal = _PROVENANCE[name]
        if not is_legal(value):
            raise _bad(folder, "trained_on.yaml", name, value, legal)
    path = folder / "digests.txt"
    if path.is_file():
        try:
            known["digests"] = path.read_text(encoding="ascii").split()
        except ValueError as error:
            raise BundleError(f"Bad bundle file {path}: it is not ASCII; get it anew.") from error
    return Provenance(**known)


def _bad(folder: Path, file: str, key: str, value: object, legal: str) -> BundleError:
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
    return BundleError(
        f"Bad bundle {folder}: {key} in {file} is {shown}, expected {legal}; get it anew."
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_any_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_classes(value: object) -> bool:
    return isinstance(value, list) and _is_names(value) and len(set(value)) == len(value) >= 2


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_optional_number(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _is_counts(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_count, value.values()))


def _is_texts_by_name(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, [*value, *value.values()]))


def _is_figure(value: object) -> bool:
    """A value, and the ends of its interval, each a finite number; the ends may be None."""
    if not isinstance(value, Mapping):
        return False
    ends = [value.get(key) for key in ("low", "high")]
    numbers = [value.get("value"), *(end for end in ends if end is not None)]
    return (ends[0] is None) == (ends[1] is None) and all(
        isinstance(number, (int, float)) and math.isfinite(number) for number in numbers
    )


_NAMES = (_is_names, "a list of names")
_TEXT = (_is_any_text, "text")
_NUMBER = (_is_optional_number, "a whole number")
_PROVENANCE = {
    **dict.fromkeys(("corpora", "speakers", "languages", "digests"), _NAMES),
    **dict.fromkeys(("label_target", "licence", "split", "split_hash", "commit"), _TEXT),
    **dict.fromkeys(("seed", "epochs"), _NUMBER),
    "sexes": (_is_counts, "numbers of speakers by sex"),
    "merge": (_is_texts_by_name, "classes by name"),
}


class _Loader(yaml.SafeLoader):
    """Plain YAML without aliases, whose copies of copies could fill any memory."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > _MAX_CONFIG:
        raise BundleError(f"Bad bundle file {path}: missing, or over 1 MiB; get it anew.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BundleError(f"Bad bundle file {path}: it is not plain YAML; get it anew.") from error
    if not isinstance(content, dict):
        raise BundleError(f"Bad bundle file {path}: expected settings by name; get it anew.")
    return content
