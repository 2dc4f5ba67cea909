"""Stress test: predictions of a model on degraded recordings, by condition."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

import numpy as np
import torch

from avser.data.splits import clip_name
from avser.evaluation.predict import predict, select_classes
from avser.evaluation.predictions import Predictions
from avser.media.degradations import CONDITIONS, Condition, Samples
from avser.models.net import EmotionNet
from avser.types import Batch, Clip

CLEAN = "clean"
_POOL = 100  # clips of which babble is made


def clip_rng(*words: object) -> np.random.Generator:
    """Return a random generator seeded by the words, the same in every process."""
    name = " ".join(map(str, words)).encode()
    return np.random.default_rng(int.from_bytes(blake2b(name, digest_size=8).digest(), "big"))


def stress(
    net: EmotionNet,
    loader: Iterable[Batch],
    clips: Sequence[Clip],
    *,
    seen: set[str],
    classes: Sequence[str] | None = None,
    kept: Sequence[str] | None = None,
    conditions: Mapping[str, Condition] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Predictions]:
    """Predict every clip under every condition; pictures are not degraded.

    Args:
        net: in evaluation mode.
        loader: of whole clips with samples; iterated over several times.
        clips: of the loader.
        seen: see `avser.evaluation.predict.predict`.
        classes: see `avser.evaluation.predict.predict`.
        kept: classes over which to predict; None keeps the net's own.
        conditions: by name; None is `CONDITIONS`.
        seed: of noise, rooms and babble; each clip has its own draw of each condition.
        progress: called as ``(done, total)`` over the conditions.

    Returns:
        Condition to predictions, ``clean`` first.
    """
    conditions = CONDITIONS if conditions is None else conditions
    pool = _pool(loader, clips)
    results: dict[str, Predictions] = {}
    for done, name in enumerate((CLEAN, *conditions)):
        batches = loader
        if name != CLEAN:
            batches = degraded(loader, clips, conditions[name], pool=pool, seed=seed)
        predictions = predict(net, batches, clips, seen=seen, classes=classes)
        results[name] = predictions if kept is None else select_classes(predictions, kept)
        if progress is not None:
            progress(done + 1, 1 + len(conditions))
    return results


def degraded(
    loader: Iterable[Batch],
    clips: Sequence[Clip],
    condition: Condition,
    *,
    pool: Mapping[str, Sequence[Samples]],
    seed: int,
) -> Iterator[Batch]:
    """Yield the batches of a loader with degraded samples.

    Args:
        loader: of whole clips.
        clips: of the loader.
        condition: to apply.
        pool: speaker to clips from which babble for other speakers is mixed.
        seed: of the draws.
    """
    speaker = {clip_name(c): c.speaker or clip_name(c) for c in clips}
    for batch in loader:
        waveform = batch["waveform"].clone()
        rows = zip(batch["clip_id"], batch["lengths"].tolist(), strict=True)
        for row, (name, length) in enumerate(rows):
            others = [x for s, own in pool.items() if s != speaker[name] for x in own]
            others = others or [x for own in pool.values() for x in own]
            samples = waveform[row, :length].numpy()
            rng = clip_rng(seed, condition.name, name)
            waveform[row, :length] = torch.from_numpy(condition.apply(samples, rng, others))
        yield {**batch, "waveform": waveform}


def _pool(loader: Iterable[Batch], clips: Sequence[Clip]) -> dict[str, list[Samples]]:
    """Some clips of every speaker, chosen independently of the loader's order."""
    chosen = sorted(clips, key=lambda clip: blake2b(clip_name(clip).encode()).digest())[:_POOL]
    speaker = {clip_name(c): c.speaker or clip_name(c) for c in chosen}
    pool: dict[str, list[Samples]] = {}
    for batch in loader:
        rows = zip(batch["clip_id"], batch["lengths"].tolist(), strict=True)
        for row, (name, length) in enumerate(rows):
            if name in speaker and length:
                samples = batch["waveform"][row, :length].numpy()
                pool.setdefault(speaker[name], []).append(samples)
    return pool
