"""Training loss and model-selection metric."""

from torch import Tensor


def soft_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of ``logits [..., K]`` to soft ``target [..., K]``, classes weighted."""
    return -(target * weight * logits.log_softmax(dim=-1)).sum(dim=-1)


def recall_mean(confusion: Tensor) -> Tensor:
    """UAR from ``confusion [K, K]`` (rows are true classes), over the classes that occur."""
    support = confusion.sum(dim=1)
    recall = confusion.diagonal() / support.clamp(min=1)
    return recall.sum() / (support > 0).sum().clamp(min=1)
