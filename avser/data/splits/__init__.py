"""Protocols: which speakers train, which choose the epoch, and which give the figure."""

from avser.data.splits.base import PARTS, Parts, Split, chunks, clip_name
from avser.data.splits.marked import Given, RandomSplit, Resubstitution
from avser.data.splits.speakers import CrossCorpus, HeldOut, Loso, SpeakerKFold, find_speaker

__all__ = [
    "PARTS",
    "CrossCorpus",
    "Given",
    "HeldOut",
    "Loso",
    "Parts",
    "RandomSplit",
    "Resubstitution",
    "SpeakerKFold",
    "Split",
    "chunks",
    "clip_name",
    "find_speaker",
]
