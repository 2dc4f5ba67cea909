"""Fitting of networks whose heads are classical baselines."""

from collections.abc import Iterable

import torch
from torch import Tensor

from avser.errors import ConfigError
from avser.models.baselines.head import BaselineHead
from avser.models.devices import device_of, on_device
from avser.models.net import EmotionNet
from avser.types import Batch


def has_baseline(net: EmotionNet) -> bool:
    """Whether a net is fitted instead of trained; a fusion beside baselines is trained."""
    heads = [net.heads["fused"]] if "fused" in net.heads else net.heads.values()
    return any(isinstance(head, BaselineHead) for head in heads)


@torch.no_grad()
def fit_baselines(net: EmotionNet, loader: Iterable[Batch]) -> EmotionNet:
    """Fit every stream's baseline to the encoder's vectors of labelled clips.

    Args:
        net: with a `BaselineHead`; its encoders do not change.
        loader: of the training clips.

    Returns:
        The net, in evaluation mode.

    Raises:
        ConfigError: the net has a fusion, or a class has no clip.
    """
    if net.fusion is not None:
        raise ConfigError(
            "Bad net: a baseline trains no fusion; leave fusion out, or choose another head."
        )
    net.eval()
    vectors: dict[str, list[Tensor]] = {name: [] for name in net.heads}
    labels: dict[str, list[Tensor]] = {name: [] for name in net.heads}
    home = device_of(net)
    for batch in loader:
        batch = on_device(batch, home)
        for name, (x, mask) in net.encode(batch).items():
            head = net.heads[name]
            if isinstance(head, BaselineHead):
                rows, clip = head.vectors(x.float(), mask)
                label = batch["label"][clip]
                labelled = label >= 0
                vectors[name].append(rows[labelled])
                labels[name].append(label[labelled])
    for name, head in net.heads.items():
        if isinstance(head, BaselineHead):
            head.baseline.fit(torch.cat(vectors[name]), torch.cat(labels[name]))
    return net
