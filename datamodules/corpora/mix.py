"""Several corpora as one, to train on all of them or to train on one and test on another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from avser.errors import ConfigError
from avser.types import Clip, Corpus


class Mix(Corpus):
    """The clips of several corpora, one after the other.

    Speakers stay distinct, for they begin with the corpus's name; ids of clips are given that
    prefix here. A clip keeps the name of its own corpus, which `CrossCorpus` and
    `LeaveOneCorpusOut` split by. Calm, which few corpora have, counts as neutral unless
    ``data.merge`` is set, or ``data.emotions`` names it.

    Args:
        corpora: the corpora, each of a different name.
    """

    name = "mix"
    title = "Mix"
    licence = "of each corpus, its own"
    url = "the corpora of the mix"
    citation = "of each corpus, its own"

    merge: Mapping[str, str] = MappingProxyType({"calm": "neutral"})

    def __init__(self, corpora: list[Corpus]) -> None:
        super().__init__()
        if not corpora:
            raise ConfigError("Bad corpora []: a mix needs at least one; name them in corpora.")
        self.corpora = tuple(corpora)
        self.languages = tuple(dict.fromkeys(x for c in corpora for x in c.languages))
        targets = dict.fromkeys(corpus.label_target for corpus in corpora)
        self.label_target = "+".join(targets)

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``ravdess/03-01-06-01-02-01-12``).

        Raises:
            CorpusError: one of the corpora is not where it was looked for.
            ConfigError: two of them have the same name, so their speakers could be confused.
        """
        result: list[Clip] = []
        seen: set[str] = set()
        for corpus in self.corpora:
            clips = corpus.clips()
            names = {clip.corpus for clip in clips}
            if twice := names & seen:
                raise ConfigError(
                    f"Bad corpora: {min(twice)!r} stands there twice, expected different "
                    "corpora; drop one, or give manifests different names (corpus: NAME)."
                )
            seen |= names
            result += [replace(clip, clip_id=f"{clip.corpus}/{clip.clip_id}") for clip in clips]
        return sorted(result, key=lambda clip: clip.clip_id)
