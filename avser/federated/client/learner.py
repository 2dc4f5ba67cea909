"""Local training on a client's clips, with one network for all clients of a process.

No Lightning trainer is set up: a round of a hundred clients is a hundred short loops over batches,
with one network, one import and no files.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avser.errors import ConfigError
from avser.evaluation.metrics import confusion_matrix
from avser.federated.client.feature_store import with_stored_features
from avser.federated.plan import Plan, build_task
from avser.federated.weights import (
    Arrays,
    arrays_of,
    difference,
    has_batch_norm,
    load_arrays,
    load_constants,
    load_statistics,
    names_of,
    norm_of,
    statistics_of,
)
from avser.models.net import EmotionNet
from avser.types import Batch

Batches = Callable[[int], Iterable[Batch]]  # of an epoch, from 0


@dataclass(frozen=True, kw_only=True)
class LocalResult:
    """Result of local training: weights, number of clips, mean loss, statistics of batch norm."""

    arrays: Arrays
    examples: int
    loss: float
    statistics: bytes


class LocalTrainer:
    """Network, losses and local training.

    Args:
        plan: of network and training.
        seed: of the initial weights.
    """

    def __init__(self, plan: Plan, *, seed: int = 0) -> None:
        self.plan = plan
        self.task = build_task(plan, seed=seed)

    @property
    def net(self) -> EmotionNet:
        """The network."""
        return self.task.net

    def receive(self, arrays: Arrays, constants: bytes, statistics: bytes = b"") -> None:
        """Load the server's weights and constants, and this client's own statistics."""
        load_constants(self.net, constants)
        load_arrays(self.net, arrays)
        if statistics:
            load_statistics(self.net, statistics)

    def weigh_classes(self, labels: Sequence[int]) -> None:
        """Weigh classes by inverse frequency among these clips (mean 1 over those that occur)."""
        weight = torch.ones(len(self.plan.emotions))
        if self.task.use_class_weights and labels:
            counts = torch.bincount(torch.tensor(labels), minlength=len(weight)).float()
            there = counts > 0
            weight = torch.where(there, 1 / counts.clamp(min=1), torch.zeros(()))
            # at most four times the mean: a client may have one clip of a class
            weight = (weight / weight[there].mean()).clamp(max=4.0)
        self.task.class_weight.copy_(weight)

    def train(
        self,
        batches: Batches,
        *,
        labels: Sequence[int],
        branches: Iterable[str],
        epochs: int,
        seed: int,
        lr_scale: Callable[[float], float],
        proximal: float = 0.0,
        average: float = 0.0,
        progress: Callable[[], None] | None = None,
    ) -> LocalResult:
        """Train the network from its present weights.

        Args:
            batches: of an epoch.
            labels: of all clips, for class weights.
            branches: whose weights are returned; see `weights.branches_of`.
            epochs: passes over the clips.
            seed: of augmentation and dropout.
            lr_scale: factor on the learning rate at a share of the training from 0 to 1.
            proximal: weight of FedProx's term.
            average: decay of averaged weights, returned instead of the last ones; 0 is none.
            progress: called after every epoch.
        """
        self.weigh_classes(labels)
        names = names_of(self.net, branches)
        anchors = [p.detach().clone() for p in self.net.parameters()] if proximal > 0 else []
        self.task.train()
        self.task.averaged.eval()
        optimizer = self.task.new_optimizer()
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        losses: list[float] = []
        examples = 0
        mean = {n: a.astype(np.float64) for n, a in arrays_of(self.net, names).items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for epoch in range(epochs):
                rows = list(batches(epoch))
                for place, batch in enumerate(rows):
                    share = (epoch + place / max(1, len(rows))) / epochs
                    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                        group["lr"] = peak * lr_scale(share)
                    size = len(batch["label"])
                    losses.append(self._update(optimizer, batch, anchors, proximal))
                    if average:
                        self._average(mean, min(average, len(losses) / (9 + len(losses))))
                    examples += size if epoch == 0 else 0
                if progress is not None:
                    progress()
        self.net.eval()
        statistics = statistics_of(self.net) if has_batch_norm(self.net) else b""
        last = arrays_of(self.net, names)
        return LocalResult(
            arrays={n: mean[n].astype(np.float32) for n in names} if average else last,
            examples=examples,
            loss=float(np.mean(losses)) if losses else math.nan,
            statistics=statistics,
        )

    @torch.no_grad()
    def _average(self, mean: dict[str, NDArray[np.float64]], decay: float) -> None:
        """Move averaged weights towards those of the network."""
        for name, parameter in self.net.named_parameters():
            if name in mean:
                mean[name] += (1 - decay) * (parameter.numpy() - mean[name])

    def _update(
        self,
        optimizer: torch.optim.Optimizer,
        batch: Batch,
        anchors: Sequence[Tensor],
        proximal: float,
    ) -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.plan.bfloat16):
            transforms = with_stored_features(batch, self.task.transforms)
            loss, _ = self.task.training_loss(batch, transforms=transforms)
        if anchors:
            pairs = zip(self.net.parameters(), anchors, strict=True)
            loss = (
                loss
                + 0.5 * proximal * torch.stack([(p - a).square().sum() for p, a in pairs]).sum()
            )
        loss.backward()  # type: ignore[no-untyped-call]
        if self.plan.clip_gradient > 0:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.plan.clip_gradient)
        optimizer.step()
        return float(loss.detach())

    @torch.inference_mode()
    def confusion(self, loader: Iterable[Batch]) -> NDArray[np.int64]:
        """Return the confusion matrix ``[K, K]`` of the network on whole clips."""
        self.net.eval()
        labels: list[int] = []
        predicted: list[int] = []
        for batch in loader:
            answer = self.net.predict(self.net(batch, transforms=with_stored_features(batch)))
            labels += batch["label"].tolist()
            predicted += answer.probabilities.argmax(dim=1).tolist()
        return confusion_matrix(labels, predicted, len(self.plan.emotions))


def clipped(new: Arrays, old: Arrays, limit: float) -> Arrays:
    """Clip weights to a distance of at most ``limit`` from the old ones.

    Raises:
        ConfigError: the update is not finite.
    """
    update = difference(new, old)
    norm = norm_of(update)
    if not math.isfinite(norm):
        raise ConfigError("Bad update: it is not finite; lower the learning rate.")
    scale = min(1.0, limit / norm) if limit > 0 and norm > 0 else 1.0
    return {n: np.asarray(old[n] + scale * v, dtype=np.float32) for n, v in update.items()}
