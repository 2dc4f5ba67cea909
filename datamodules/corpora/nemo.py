"""nEMO: nine Polish actors, ninety sentences, six emotions, sound only."""

from __future__ import annotations

import csv
import re

from avser.stores import local_copy
from avser.types import Clip, Corpus

from ._layout import SOUND, emotion_of, files_below, missing, named

EMOTIONS = {
    "anger": "angry",
    "fear": "fearful",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprised": "surprised",
}
_NAME = re.compile(r"([A-Z]{2,3}\d)_([a-z]+)_(\d+)")


class Nemo(Corpus):
    """nEMO: ``samples/EB0_anger_1.wav`` beside ``data.tsv``, or the same files flat.

    Sex, age and text are known where the owners' table is there.
    """

    name = "nemo"
    title = "nEMO"
    licence = "CC BY-NC-SA 4.0"
    url = "https://github.com/amu-cai/nEMO"
    citation = (
        "Christop I (2024). nEMO: Dataset of Emotional Speech in Polish. LREC-COLING 2024, "
        "12111-12116"
    )
    languages = ("Polish",)

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``EB0_anger_1``)."""
        table, clips = self._table(), []
        for path, match in named(self.root, pattern=_NAME, suffixes=SOUND):
            speaker, code, sentence = match.groups()
            row = table.get(match[0], {})
            sex = row.get("gender", "").lower()
            known = {"age": row.get("age", ""), "text": row.get("raw_text", "")}
            clips.append(
                Clip(
                    path=path,
                    clip_id=match[0],
                    emotion=emotion_of(code, codes=EMOTIONS, path=path),
                    speaker=f"{self.name}/{speaker}",
                    corpus=self.name,
                    sex=sex if sex in ("female", "male") else "",
                    sentence=sentence,
                    attributes={key: value for key, value in known.items() if value},
                )
            )
        if not clips:
            raise missing(self, example="samples/EB0_anger_1.wav or EB0_anger_1.wav")
        return sorted(clips, key=lambda clip: clip.clip_id)

    def _table(self) -> dict[str, dict[str, str]]:
        """Rows of the owners' ``data.tsv`` by file name without suffix; none without it."""
        for path in files_below(self.root, suffixes=(".tsv",)):
            if path.name == "data.tsv":
                with local_copy(path) as copy, copy.open(encoding="utf-8", newline="") as file:
                    rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                    return {(row.get("file_id") or "").partition(".")[0]: row for row in rows}
        return {}
