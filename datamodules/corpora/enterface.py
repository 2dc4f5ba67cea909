"""eNTERFACE'05: 44 subjects react to six stories in English, six emotions, sound and video."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path, PurePath

from avser.types import Clip, Corpus

from ._layout import VIDEO, emotion_of, files_below, missing

EMOTIONS = {
    "an": "angry",
    "di": "disgust",
    "fe": "fearful",
    "ha": "happy",
    "sa": "sad",
    "su": "surprised",
}

# File names can't be trusted: all of subject 11 are called s12_…, some of subject 3 s_3_…, and
# there is an s16_su_3avi.avi. Folders are regular, so the subject and the emotion are theirs.
_SUBJECT = re.compile(r"subject[ _-]?(\d+)", re.IGNORECASE)
_SENTENCE = re.compile(r"sentence[ _-]?(\d+)", re.IGNORECASE)
_NAME = re.compile(r"s_?(\d+)_([a-z]{2})_?(\d+)?(?:avi)?\s*", re.IGNORECASE)


class Enterface(Corpus):
    """eNTERFACE'05: ``enterface database/subject 1/anger/sentence 1/s1_an_1.avi``.

    Some subjects lack the sentence folder; where the file has no sentence number either, it is
    a whole session, and its attribute ``unsegmented`` is "yes". Each emotion has sentences of
    its own, so words alone give the emotion away.
    """

    name = "enterface"
    title = "eNTERFACE'05"
    languages = ("English",)
    licence = "MIT conditions, as its page says"
    url = "https://enterface.net/enterface05/emotion.html"
    citation = (
        "Martin O, Kotsia I, Macq B, Pitas I (2006). The eNTERFACE'05 Audio-Visual Emotion "
        "Database. ICDE Workshops 2006. doi:10.1109/ICDEW.2006.145"
    )

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``s1_an_1``)."""
        clips: dict[str, Clip] = {}
        for path in files_below(self.root, suffixes=VIDEO):
            clip = self._clip(path)
            if clip is not None:
                clips.setdefault(clip.clip_id, clip)
        if not clips:
            raise missing(self, example="subject 1/anger/sentence 1/s1_an_1.avi")
        return [clips[clip_id] for clip_id in sorted(clips)]

    def _clip(self, path: PurePath) -> Clip | None:
        name = _NAME.fullmatch(path.stem)
        top = Path(self.root).absolute().name  # the root may be the folder of one subject
        folders = (*path.relative_to(self.root).parts[-2::-1], top)  # nearest first
        subject = next((m[1] for f in folders if (m := _SUBJECT.fullmatch(f))), None)
        if subject is None and name is None:
            return None  # a video of something else
        number = int(subject if subject is not None else name[1] if name else 0)
        code = self._code(path, folders, name)
        sentence = next((m[1] for f in folders[:1] if (m := _SENTENCE.fullmatch(f))), None)
        if sentence is None and name is not None:
            sentence = name[3]
        tail = f"{code}_{sentence}" if sentence is not None else code
        return Clip(
            path=path,
            clip_id=f"s{number}_{tail}",
            emotion=emotion_of(code, codes=EMOTIONS, path=path),
            speaker=f"{self.name}/{number}",
            corpus=self.name,
            video=path,
            sentence=tail,
            attributes={} if sentence is not None else {"unsegmented": "yes"},
        )

    @staticmethod
    def _code(path: PurePath, folders: tuple[str, ...], name: re.Match[str] | None) -> str:
        """Two letters: of the folder below the subject's, or of the file's own name."""
        for inner, outer in pairwise(folders):
            if _SUBJECT.fullmatch(outer) and not _SENTENCE.fullmatch(inner):
                return inner[:2].lower()
        return name[2].lower() if name is not None else path.stem[:2].lower()
