"""Predictions of a network on the clips of a loader."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avser.data.splits import clip_name
from avser.evaluation.predictions import Predictions
from avser.models.devices import device_of, on_device
from avser.models.net import EmotionNet
from avser.types import Batch, Clip


@torch.inference_mode()
def predict(
    net: EmotionNet,
    loader: Iterable[Batch],
    clips: Sequence[Clip],
    *,
    seen: set[str],
    classes: Sequence[str] | None = None,
    stream: str | None = None,
    unit: Literal["clip", "chunk"] = "clip",
) -> Predictions:
    """Predict every clip of a loader, whole; clips without signal get the uniform distribution.

    Args:
        net: in evaluation mode.
        loader: batches whose ``clip_id`` is `clip_name`.
        clips: of the loader.
        seen: speakers, and `clip_name` of recordings, of the model's training data.
        classes: names of the loader's label indices; None is the net's own classes.
        stream: head whose predictions are returned ("audio", "video"); None is the head that the
            net chooses for each clip.
        unit: "chunk" returns a row for each valid step of 0.512 s, named ``<clip>#<step>``, with
            the clip's label.
    """
    place = [net.emotions.index(n) if n in net.emotions else -1 for n in classes or net.emotions]
    rows = {clip_name(c): c for c in clips}
    home = device_of(net)
    names: list[str] = []
    of: list[str] = []
    labels: list[int] = []
    probabilities: list[Tensor] = []
    for batch in loader:
        streams = net(on_device(batch, home))
        prediction = net.predict(streams if stream is None else {stream: streams[stream]})
        truth = [place[label] for label in batch["label"].tolist()]
        if unit == "chunk":
            where = prediction.mask.nonzero().tolist()
            probabilities.append(prediction.step_probabilities[prediction.mask].cpu())
            names += [f"{batch['clip_id'][b]}#{t}" for b, t in where]
            of += [batch["clip_id"][b] for b, _ in where]
            labels += [truth[b] for b, _ in where]
            continue
        silent = (prediction.used < 0)[:, None]
        probabilities.append((prediction.probabilities + silent / len(net.emotions)).cpu())
        names += batch["clip_id"]
        of += batch["clip_id"]
        labels += truth
    return Predictions(
        clip_ids=names,
        speakers=[rows[n].speaker for n in of],
        sexes=[rows[n].sex for n in of],
        labels=np.array(labels, dtype=np.int64),
        probabilities=torch.cat(probabilities).numpy(),
        emotions=net.emotions,
        seen=[rows[n].speaker in seen or n in seen for n in of],
    )


def by_clip(chunks: Predictions) -> Predictions:
    """Average the probabilities of chunks named ``<clip>#<step>`` over each clip."""
    names = [name.rpartition("#")[0] for name in chunks.clip_ids]
    first = {name: row for row, name in reversed(list(enumerate(names)))}
    clips = sorted(first)
    place = {name: row for row, name in enumerate(clips)}
    index = np.array([place[name] for name in names])
    total = np.zeros((len(clips), len(chunks.emotions)))
    np.add.at(total, index, chunks.probabilities)
    kept = chunks.take([first[name] for name in clips])
    return replace(kept, clip_ids=clips, probabilities=total / np.bincount(index)[:, None])


def select_classes(predictions: Predictions, classes: Sequence[str]) -> Predictions:
    """Keep some of the classes, and renormalise the probabilities.

    Args:
        predictions: with labels among ``classes``.
        classes: to keep, in their new order.
    """
    columns = [predictions.emotions.index(name) for name in classes]
    kept = predictions.probabilities[:, columns] + 1e-9
    labels = np.array([columns.index(label) for label in predictions.labels], dtype=np.int64)
    return replace(
        predictions,
        labels=labels,
        probabilities=kept / kept.sum(axis=1, keepdims=True),
        emotions=tuple(classes),
    )
