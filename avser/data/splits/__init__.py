"""Splits into training, validation and test parts."""

from avser.data.splits.base import PARTS, Split, SplitParts, chunks, clip_name
from avser.data.splits.given import AutoSplit, Given
from avser.data.splits.speaker_dependent import RandomSplit, Resubstitution
from avser.data.splits.speakers import (
    CrossCorpus,
    HeldOut,
    LeaveOneCorpusOut,
    Loso,
    SpeakerKFold,
    find_speaker,
)

__all__ = [
    "PARTS",
    "AutoSplit",
    "CrossCorpus",
    "Given",
    "HeldOut",
    "LeaveOneCorpusOut",
    "Loso",
    "RandomSplit",
    "Resubstitution",
    "SpeakerKFold",
    "Split",
    "SplitParts",
    "chunks",
    "clip_name",
    "find_speaker",
]
