"""Speech of one corpus beside face pictures of another, paired by emotion.

It serves to train a fusion where no recordings of both are at hand. Voice and face are of
different people who were not even in the same room: nothing measured on pairs is an accuracy on
real clips, so every table is marked PAIRED.
"""

from __future__ import annotations

from avser.types import Clip, Corpus, ImageCorpus


class Paired(Corpus):
    """The clips of a speech corpus, to which a data module adds pictures of the same emotion.

    In training a clip is shown a picture of the picture corpus's own training part, another one
    each time; elsewhere always the same one of its validation part.

    Args:
        speech: sound.
        pictures: face pictures, in the owner's parts.
    """

    name = "paired"
    title = "Paired"
    licence = "of both corpora, their own"
    url = "the two corpora of the pairs"
    citation = "of each corpus, its own"

    def __init__(self, speech: Corpus, pictures: ImageCorpus) -> None:
        super().__init__()
        self.speech, self.pictures = speech, pictures
        self.languages = speech.languages
        self.label_target = speech.label_target
        self.licence = f"{speech.licence}; {pictures.licence}"  # type: ignore[misc]

    def clips(self) -> list[Clip]:
        """List the clips of the speech corpus."""
        return self.speech.clips()
