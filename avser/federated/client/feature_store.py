"""Storage of clips as features of the front end, without their audio.

A contributor's folder then holds no recording. The network is trained on the stored features,
behind its front end. Log-mel features can be inverted to poor speech, MFCC much less.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from torch import Tensor

from avser.errors import ConfigError
from avser.federated.plan import Plan
from avser.federated.simulation.partition import split_holdout_rows
from avser.files import atomic_write
from avser.models.net import EmotionNet
from avser.models.transforms import IDENTITY, Transforms
from avser.types import STEP_SAMPLES, Batch, audio_batch

FOLDER = "features"


def frontend_digest(model: Mapping[str, Any]) -> str:
    """Fingerprint of the front-end configuration: sixteen hex digits."""
    audio = model.get("audio") or {}
    settings = dict(audio.get("init_args") or {})
    names = ("frontend", "trim_db", "conditioning")
    text = json.dumps([audio.get("class_path"), *(settings.get(name) for name in names)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@torch.inference_mode()
def save_features(
    net: EmotionNet, waveform: np.ndarray, folder: Path, *, emotion: str, front: str
) -> Path:
    """Save one clip as features.

    Args:
        net: whose front end computes the features.
        waveform: ``[S]`` float32 at 16 kHz.
        folder: of the contributor.
        emotion: its label.
        front: see `frontend_digest`.

    Raises:
        ConfigError: the net has no audio branch.
    """
    if net.audio is None:
        raise ConfigError("Bad model: it has no audio branch; no features can be stored.")
    wave = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))[None]
    raw, mask = net.audio.raw_features(wave, torch.tensor([wave.shape[1]]))
    # safetensors writes memory as it lies, whatever the strides
    features = np.ascontiguousarray(raw[0].numpy(), dtype=np.float16)
    content = {"features": features, "mask": np.ascontiguousarray(mask[0].numpy())}
    path = folder / FOLDER / f"{uuid.uuid4().hex}.safetensors"
    with atomic_write(path, mode="wb") as file:
        file.write(save_tensors(content, metadata={"emotion": emotion, "front": front}))
    return path


class StoredFeatures:
    """Client data stored as features; see `avser.federated.client.app.ClientData`.

    Args:
        folder: of the contributor.
        name: of the client, as the server logs it.
        plan: with the front end of the features; others are left out.
    """

    streams: Sequence[str] = ("audio",)
    attack = ""

    def __init__(self, folder: Path, *, name: str, plan: Plan) -> None:
        self.name, self._size = name, plan.batch_size
        front = frontend_digest(plan.model)
        rows = [r for p in sorted((folder / FOLDER).glob("*.safetensors")) if (r := _read(p))]
        classes = {e: i for i, e in enumerate(plan.emotions)}
        merge = dict(plan.merge)
        usable = []
        for features, mask, about in rows:
            emotion = merge.get(about["emotion"], about["emotion"])
            if about["front"] == front and emotion in classes:
                usable.append((features, mask, classes[emotion]))
        labels = [str(r[2]) for r in usable]
        train, holdout = split_holdout_rows(labels, share=plan.holdout_share, seed=0)
        self._train, self._holdout = [usable[i] for i in train], [usable[i] for i in holdout]
        self.labels: Sequence[int] = [row[2] for row in self._train]

    def batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        """Shuffled training batches of an epoch."""
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(self._train)).tolist()
        for i in range(0, len(order), self._size):
            yield _batch([self._train[j] for j in order[i : i + self._size]])

    def holdout(self) -> Iterator[Batch]:
        """Clips of the holdout."""
        for i in range(0, len(self._holdout), self._size):
            yield _batch(self._holdout[i : i + self._size])


class CombinedClientData:
    """A client's recordings and stored features together."""

    def __init__(self, first: Any, second: Any) -> None:  # noqa: ANN401
        self._parts = (first, second)
        self.name, self.streams, self.attack = first.name, first.streams, first.attack
        self.labels: Sequence[int] = [*first.labels, *second.labels]

    def batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        """Training batches of both."""
        for part in self._parts:
            if part.labels:
                yield from part.batches(epoch, seed)

    def holdout(self) -> Iterator[Batch]:
        """Holdout clips of both."""
        for part in self._parts:
            yield from part.holdout()


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, str]] | None:
    from safetensors import safe_open

    try:
        content = load_tensors(path.read_bytes())
        with safe_open(path, framework="numpy") as file:
            about = file.metadata()
        return content["features"], content["mask"], {k: about[k] for k in ("emotion", "front")}
    except Exception:  # damaged files are left out
        return None


def _batch(rows: Sequence[tuple[np.ndarray, np.ndarray, int]]) -> Batch:
    """Collate features; the batch's waveform is a placeholder."""
    frames = max(r[0].shape[2] for r in rows)
    shape = (len(rows), *rows[0][0].shape[:2], frames)
    features, mask = torch.zeros(shape), torch.zeros(len(rows), frames, dtype=torch.bool)
    for i, (values, valid, _) in enumerate(rows):
        features[i, :, :, : values.shape[2]] = torch.from_numpy(values.astype(np.float32))
        mask[i, : len(valid)] = torch.from_numpy(valid)
    sound = 0.1 * (1 - 2 * (torch.arange(STEP_SAMPLES) % 2))  # a constant would be no sound
    batch = audio_batch(
        sound.repeat(len(rows), 1),
        torch.full((len(rows),), STEP_SAMPLES),
        label=torch.tensor([r[2] for r in rows]),
    )
    batch["stored_features"] = (features, mask)  # type: ignore[typeddict-unknown-key]
    return batch


def with_stored_features(batch: Batch, transforms: Transforms = IDENTITY) -> Transforms:
    """Add a batch's stored features, if it has any, to the transforms of its forward pass."""
    stored: tuple[Tensor, Tensor] | None = batch.get("stored_features")  # type: ignore[assignment]
    if stored is None:
        return transforms
    return replace(transforms, features=lambda encoder, waveform, lengths: stored)
