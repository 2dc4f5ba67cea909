"""Vocabulary of emotion words, their spellings in corpora, and the classes of a task.

A corpus maps its own codes to these words (in its own file); a configuration then selects and
merges classes with `Labels`. Order in `VOCABULARY` is the order of classes everywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from avser.errors import ConfigError, unknown

VOCABULARY = (
    "neutral",
    "calm",
    "happy",
    "sad",
    "angry",
    "fearful",
    "disgust",
    "surprised",
    "bored",
    "excited",
    "frustrated",
    "contempt",
)

#: Spellings of corpora and tables, in lower case, to the word of `VOCABULARY`.
ALIASES: Mapping[str, str] = {
    "anger": "angry",
    "ang": "angry",
    "boredom": "bored",
    "disgusted": "disgust",
    "dis": "disgust",
    "excitement": "excited",
    "exc": "excited",
    "fear": "fearful",
    "fea": "fearful",
    "scared": "fearful",
    "afraid": "fearful",
    "frustration": "frustrated",
    "fru": "frustrated",
    "happiness": "happy",
    "hap": "happy",
    "joy": "happy",
    "neu": "neutral",
    "sadness": "sad",
    "surprise": "surprised",
    "sur": "surprised",
    "pleasant_surprise": "surprised",
    "pleasant_surprised": "surprised",
    "ps": "surprised",
}


def canonical(name: str) -> str:
    """Return the word of the vocabulary for a spelling of an emotion.

    Raises:
        ConfigError: the spelling is unknown.

    >>> canonical("Anger")
    'angry'
    """
    key = name.strip().lower().replace(" ", "_").replace("-", "_")
    key = ALIASES.get(key, key)
    if key not in VOCABULARY:
        raise ConfigError(unknown("emotion", name, VOCABULARY))
    return key


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct canonical names in the vocabulary's order."""
    wanted = {canonical(name) for name in names}
    return tuple(name for name in VOCABULARY if name in wanted)


@dataclass(frozen=True)
class Labels:
    """Classes of a task: a map that merges emotions, applied first, and a selection.

    Attributes:
        select: emotions to keep, after merging; None keeps all.
        merge: emotion to emotion, for instance ``{"calm": "neutral"}``.
    """

    select: tuple[str, ...] | None = None
    merge: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, emotion: str | None) -> str | None:
        """Map one emotion; None if it is not a class of the task."""
        if emotion is None:
            return None
        merged = {canonical(k): canonical(v) for k, v in self.merge.items()}
        word = canonical(emotion)
        word = merged.get(word, word)
        if self.select is not None and word not in {canonical(s) for s in self.select}:
            return None
        return word
