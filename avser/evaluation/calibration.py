"""Temperatures that make probabilities agree with how often they are right."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.evaluation.predictions import Predictions
from avser.models.devices import device_of, on_device
from avser.models.net import EmotionNet
from avser.types import Batch

_SMALLEST = 1e-8  # probability that is taken for 0, whose logarithm would be infinite


@torch.inference_mode()
def _logits(
    net: EmotionNet, loader: Iterable[Batch]
) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]]:
    logits: dict[str, list[Tensor]] = {head: [] for head in net.outputs}
    labels: dict[str, list[Tensor]] = {head: [] for head in net.outputs}
    home = device_of(net)
    for batch in loader:
        batch = on_device(batch, home)
        for head, stream in net(batch).items():
            logits[head].append(stream.logits[stream.present].cpu())
            labels[head].append(batch["label"][stream.present].cpu())
    return logits, labels


def calibrate(net: EmotionNet, loader: Iterable[Batch], *, keep: Sequence[str] = ()) -> None:
    """Fit one temperature per head by negative log-likelihood (Guo et al., ICML 2017).

    Args:
        net: to calibrate.
        loader: of clips that are not in the training part.
        keep: heads whose temperatures are not changed.

    Raises:
        ConfigError: a head gives NaN or infinity.
    """
    logits, labels = _logits(net, loader)
    for head in net.outputs:
        if head in keep or not sum(len(part) for part in logits[head]):
            continue
        x, y = torch.cat(logits[head]), torch.cat(labels[head])
        if not x.isfinite().all():
            raise ConfigError(
                f"Bad training: the {head} head gives NaN or infinity for validation clips, so it "
                "diverged; lower model.lr, or set trainer.gradient_clip_val to 1."
            )
        net.temperature(head).fill_(fit_temperature(x, y))


def fit_temperature(logits: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> float:
    """Find the temperature with the least negative log-likelihood (Guo et al., ICML 2017).

    Args:
        logits: ``[N, K]``.
        labels: ``[N]`` classes.
        weights: ``[N]`` of the clips; None counts them alike.

    Returns:
        A temperature between 0.1 and 10.
    """
    x, share = logits.double(), torch.ones(len(labels)) if weights is None else weights
    share = share.double() / share.sum()

    def loss(log_t: float) -> float:
        each = F.cross_entropy(x / float(np.exp(log_t)), labels, reduction="none")
        return float((each * share).sum())

    best = minimize_scalar(loss, bounds=(-2.3, 2.3), method="bounded")
    return float(np.exp(best.x))


def crossval_temperature(folds: Sequence[tuple[Predictions, float]]) -> float:
    """Fit one temperature on the test parts of all folds, where every corpus counts alike.

    A model's own validation speakers are few, and of some of its corpora only. The folds of a
    cross-validation of the same recipe test each speaker once.

    Args:
        folds: predictions of each fold's test part, and the temperature that they were made with.
    """
    logs = [t * np.log(np.maximum(p.probabilities, _SMALLEST)) for p, t in folds]
    corpora = [speaker.split("/")[0] for p, _ in folds for speaker in p.speakers]
    sizes = Counter(corpora)
    return fit_temperature(
        torch.from_numpy(np.concatenate(logs)),
        torch.from_numpy(np.concatenate([p.labels for p, _ in folds])),
        weights=torch.tensor([1 / sizes[corpus] for corpus in corpora]),
    )
