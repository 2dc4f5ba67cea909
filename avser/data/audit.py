"""Audit of a split: parts, speakers, classes, duplicate recordings."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TypedDict

from avser.data.splits import SplitParts, clip_name
from avser.emotions import Labels


class PartAudit(TypedDict):
    """Content of one part of a split: ``classes`` counts the clips of each."""

    clips: int
    speakers: list[str]
    classes: dict[str, int]


class SplitAudit(TypedDict):
    """Content of a split; ``duplicates`` are groups of clips with the same decoded samples."""

    split_hash: str
    notes: list[str]
    parts: dict[str, PartAudit]
    duplicates: list[list[str]]


def duplicates(parts: SplitParts, digests: Mapping[str, str]) -> list[list[str]]:
    """Groups of clips whose decoded samples are the same."""
    groups: dict[str, set[str]] = defaultdict(set)
    for _, clips in parts.items():
        for clip in clips:
            name = clip_name(clip)
            if name in digests:
                groups[digests[name]].add(name)
    return sorted(sorted(names) for names in groups.values() if len(names) > 1)


def audit(
    parts: SplitParts, digests: Mapping[str, str], *, labels: Labels | None = None
) -> SplitAudit:
    """Describe a split.

    Args:
        parts: of a split.
        digests: `clip_name` to hash of decoded samples.
        labels: merge and selection of classes.
    """
    labels = labels or Labels()
    described: dict[str, PartAudit] = {
        part: {
            "clips": len(clips),
            "speakers": sorted({c.speaker for c in clips}),
            "classes": dict(sorted(Counter(str(labels(c.emotion)) for c in clips).items())),
        }
        for part, clips in parts.items()
    }
    return {
        "split_hash": parts.hash,
        "notes": list(parts.notes),
        "parts": described,
        "duplicates": duplicates(parts, digests),
    }
