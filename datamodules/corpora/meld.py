"""MELD: utterances of the television series Friends, seven emotions, sound and video."""

from __future__ import annotations

from avser.types import Clip, Corpus

from ._layout import VIDEO, emotion_of, files_below, missing, rows

EMOTIONS = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fearful",
    "joy": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprise": "surprised",
}
#: The owners' part to its table and the folder of its videos.
PARTS = {
    "train": ("train_sent_emo.csv", "train_splits"),
    "validation": ("dev_sent_emo.csv", "dev_splits_complete"),
    "test": ("test_sent_emo.csv", "output_repeated_splits_test"),
}


class Meld(Corpus):
    """MELD: ``train_splits/dia0_utt0.mp4``, labelled by ``train_sent_emo.csv``, and so on.

    Six actors speak in all of the owners' parts. Rows whose video is missing are left out and
    counted in a note. Laughter of the audience is in the sound.
    """

    name = "meld"
    title = "MELD"
    licence = "GPL-3.0 (labels); the recordings belong to the series' owners, research only"
    url = "https://affective-meld.github.io"
    citation = (
        "Poria S, Hazarika D, Majumder N, Naik G, Cambria E, Mihalcea R (2019). MELD: A Multimodal "
        "Multi-Party Dataset for Emotion Recognition in Conversations. ACL 2019, 527-536"
    )
    languages = ("English (American)",)
    label_target = "both"

    def clips(self) -> list[Clip]:
        """List the clips, sorted by ``clip_id`` (``train/dia0_utt0``)."""
        tables = {path.name: path for path in files_below(self.root, suffixes=(".csv",))}
        videos = {
            (path.parent.name, path.stem.lower()): path
            for path in reversed(files_below(self.root, suffixes=VIDEO))
        }
        clips, lost = [], 0
        for part, (table, folder) in PARTS.items():
            for _, row in rows(tables[table]) if table in tables else ():
                stem = f"dia{row.get('Dialogue_ID', '')}_utt{row.get('Utterance_ID', '')}"
                path = videos.get((folder, stem))
                if path is None:
                    lost += 1
                    continue
                code = row.get("Emotion", "").lower()
                clips.append(
                    Clip(
                        path=path,
                        clip_id=f"{part}/{stem}",
                        emotion=emotion_of(code, codes=EMOTIONS, path=path),
                        speaker=f"{self.name}/{row.get('Speaker', '').strip()}",
                        corpus=self.name,
                        video=path,
                        part=part,
                        attributes={"text": row.get("Utterance", "")},
                    )
                )
        if not clips:
            raise missing(self, example="train_sent_emo.csv and train_splits/dia0_utt0.mp4")
        self.notes = [f"{lost} rows of MELD's tables have no video"] if lost else []
        return sorted(clips, key=lambda clip: clip.clip_id)
