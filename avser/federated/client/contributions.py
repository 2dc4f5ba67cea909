"""Contributor's folder: stored contributions and the record of what was sent."""

import random
import shutil
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.federated.client.feature_store import FOLDER, frontend_digest, save_features
from avser.files import append_json_line, atomic_write, json_lines
from avser.models.net import EmotionNet

StorageMode = Literal["features", "audio", "nothing"]
STORAGE_MODES: tuple[StorageMode, ...] = ("features", "audio", "nothing")

#: Emotions to prompt for, where the model has them.
PROMPTS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One submitted clip.

    Attributes:
        time: of submission, in seconds since 1970.
        prompted: the emotion that was asked for, and the label.
        predicted: prediction of the latest model; "" where it had none.
        kept: "features", "audio" or "nothing".
        seconds: length.
    """

    time: float
    prompted: str
    predicted: str
    kept: str
    seconds: float


class Contributions:
    """Contributions in a folder.

    Args:
        folder: of the contributor.
        keep: part of a clip to store.
        name: of the contributor, as speaker.
    """

    def __init__(self, folder: Path, *, keep: StorageMode = "features", name: str = "me") -> None:
        if keep not in STORAGE_MODES:
            raise ConfigError(f"Bad keep {keep!r}: expected one of {', '.join(STORAGE_MODES)}.")
        self.folder, self.keep, self.name = folder, keep, name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FOLDER).mkdir(exist_ok=True)

    def prompt(self, emotions: tuple[str, ...]) -> str:
        """Return an emotion to act next: one of those prompted least."""
        legal = [e for e in PROMPTS if e in emotions] or list(emotions)
        asked = [c.prompted for c in self.rows()]
        least = min(asked.count(e) for e in legal)
        return random.choice([e for e in legal if asked.count(e) == least])

    def submit(
        self,
        waveform: NDArray[np.float32],
        *,
        prompted: str,
        predicted: str,
        net: EmotionNet,
        model: dict[str, Any],
    ) -> Contribution:
        """Store the chosen part of a clip, and log it.

        Args:
            waveform: ``[S]`` at 16 kHz.
            prompted: its label.
            predicted: prediction of the model.
            net: whose front end computes features.
            model: settings of the net's slots, which identify its front end.
        """
        if self.keep == "features":
            save_features(
                net, waveform, self.folder, emotion=prompted, front=frontend_digest(model)
            )
        elif self.keep == "audio":
            self._save_audio(waveform, prompted)
        row = Contribution(
            time=round(time.time(), 1),
            prompted=prompted,
            predicted=predicted,
            kept=self.keep,
            seconds=round(len(waveform) / 16_000, 2),
        )
        append_json_line(self.folder / "contributions.jsonl", asdict(row))
        return row

    def _save_audio(self, waveform: NDArray[np.float32], emotion: str) -> None:
        import wave

        path = self.folder / "sound" / f"{uuid.uuid4().hex}.wav"
        path.parent.mkdir(exist_ok=True)
        samples = np.clip(np.rint(waveform * 32767), -32768, 32767).astype("<i2")
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(samples.tobytes())
        manifest = self.folder / "manifest.csv"
        old = manifest.read_text("utf-8") if manifest.is_file() else "path,emotion,speaker\n"
        with atomic_write(manifest) as out:
            out.write(f"{old}sound/{path.name},{emotion},{self.name}\n")

    def rows(self) -> list[Contribution]:
        """Return all contributions that were not deleted."""
        return [Contribution(**line) for line in json_lines(self.folder / "contributions.jsonl")]

    def tally(self) -> dict[str, int]:
        """Count submissions, correct predictions, and replies and bytes sent."""
        rows = self.rows()
        sent = list(json_lines(self.folder / "sent.jsonl"))
        return {
            "submitted": len(rows),
            "recognised": sum(r.prompted == r.predicted for r in rows),
            "replies": len(sent),
            "bytes_sent": sum(int(line["bytes"]) for line in sent),
            "recordings_sent": 0,
        }

    def delete(self) -> int:
        """Delete all contributions and return their number; sent weights stay in the model."""
        count = len(self.rows())
        for name in (FOLDER, "sound"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("manifest.csv", "contributions.jsonl"):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / FOLDER).mkdir(exist_ok=True)
        return count
