"""Recall of an exported file on labelled clips."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from avser.evaluation.metrics import uar
from avser.export.runtime import OnnxClassifier
from avser.types import Batch


def file_uar(path: str | Path, batches: Iterable[Batch], classes: Sequence[str]) -> float:
    """UAR of a file for whole clips, over the classes that it shares with the data.

    Args:
        path: of the file.
        batches: of clips, whole; ``label`` counts ``classes``.
        classes: of the data.

    Returns:
        The mean recall; clips of classes that the file does not know are left out.
    """
    classifier = OnnxClassifier(path)
    shared = [name for name in classes if name in classifier.labels]
    columns = [classifier.labels.index(name) for name in shared]
    place = [shared.index(name) if name in shared else -1 for name in classes]
    labels: list[int] = []
    predicted: list[int] = []
    for batch in batches:
        shares, _, _ = classifier.batch(batch["waveform"].numpy(), batch["lengths"].numpy())
        for label, row in zip(batch["label"].tolist(), shares[:, columns], strict=True):
            if place[label] >= 0:
                labels.append(place[label])
                predicted.append(int(np.argmax(row)))
    return uar(labels, predicted, len(shared))
