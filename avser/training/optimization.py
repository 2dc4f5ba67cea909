"""Model-selection metric, optimizers and learning-rate schedules."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR

OptimizerName = Literal["adamw", "adam", "rmsprop", "sgd"]
ScheduleName = Literal["one_cycle", "cosine", "exponential", "constant"]


def make_optimizer(
    name: OptimizerName,
    net: nn.Module,
    scaled: Mapping[str, tuple[nn.Module, float]],
    *,
    lr: float,
    weight_decay: float,
) -> optim.Optimizer:
    """Make an optimizer of a net; SGD has a momentum of 0.9. Norms and biases are not decayed.

    Args:
        name: of the optimizer.
        net: whose parameters are optimised.
        scaled: name to a part of the net and the factor on its learning rate.
        lr: learning rate of the rest.
        weight_decay: of weights that are neither norms nor biases.
    """
    owner = {id(p): part for part, (module, _) in scaled.items() for p in module.parameters()}
    groups: dict[tuple[str, bool], list[Tensor]] = {}
    for p in net.parameters():
        groups.setdefault((owner.get(id(p), ""), p.ndim > 1), []).append(p)
    rows = [
        {
            "params": members,
            "lr": lr * (scaled[part][1] if part else 1.0),
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (part, decayed), members in groups.items()
    ]
    kinds: dict[str, Any] = {
        "adamw": optim.AdamW,
        "adam": optim.Adam,
        "rmsprop": optim.RMSprop,
        "sgd": optim.SGD,
    }
    extra = {"momentum": 0.9} if name == "sgd" else {}
    made: optim.Optimizer = kinds[name](rows, lr=lr, weight_decay=weight_decay, **extra)
    return made


def scheduled(
    optimizer: optim.Optimizer,
    name: ScheduleName,
    *,
    updates: int,
    decay: float,
    decay_epochs: int,
) -> dict[str, Any]:
    """Add a schedule to an optimizer, in the form of Lightning's ``configure_optimizers``.

    Args:
        optimizer: with the peak learning rates.
        name: of the schedule.
        updates: of the whole training.
        decay: factor of the exponential schedule.
        decay_epochs: epochs between two such factors.
    """
    if name == "constant":
        return {"optimizer": optimizer}
    if name == "exponential":
        each = StepLR(optimizer, decay_epochs, decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": each}}
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    schedule = (
        OneCycleLR(optimizer, peaks, total_steps=updates, pct_start=0.2)
        if name == "one_cycle"
        else CosineAnnealingLR(optimizer, updates)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def recall_mean(confusion: Tensor) -> Tensor:
    """UAR from ``confusion [K, K]`` (rows are true classes), over the classes that occur."""
    support = confusion.sum(dim=1)
    recall = confusion.diagonal() / support.clamp(min=1)
    return recall.sum() / (support > 0).sum().clamp(min=1)
