"""Random forest."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avser.errors import ConfigError
from avser.models.baselines.base import Baseline

_LEAF = -2  # scikit-learn's feature of a node without children


class Forest(Baseline):
    """Random forest (Breiman 2001): the mean of its trees' class shares.

    Args:
        trees: how many.
        depth: at most so many questions on a way; None has no limit.
        leaf: least vectors at an end.
        balanced: weigh classes by inverse frequency.
        seed: of the draws.
        standardise: see `Baseline`; trees do not need it.

    Raises:
        ConfigError: a number is not positive.
    """

    feature: Tensor
    threshold: Tensor
    below: Tensor
    share: Tensor

    def __init__(
        self,
        *,
        trees: int = 200,
        depth: int | None = None,
        leaf: int = 2,
        balanced: bool = False,
        seed: int = 0,
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise=standardise)
        if min(trees, leaf) < 1 or (depth is not None and depth < 1):
            raise ConfigError(f"Bad trees {trees}, depth {depth} or leaf {leaf}: 1 is the least.")
        self.trees, self.depth, self.leaf = trees, depth, leaf
        self.balanced, self.seed = balanced, seed

    def allocate(self) -> None:
        """See `Baseline.allocate`: each tree is one end."""
        self._hold(1)

    def _hold(self, nodes: int) -> None:
        shape = (self.trees, nodes)
        self.keep("feature", np.full(shape, _LEAF))
        self.keep("threshold", np.zeros(shape))
        self.keep("below", np.zeros((*shape, 2), dtype=np.int64))
        self.keep("share", np.full((*shape, self.classes), 1 / max(1, self.classes)))

    def make_room(self, stored: Mapping[str, Tensor]) -> None:
        """See `Baseline.make_room`."""
        if "feature" in stored and stored["feature"].ndim == 2:
            self._hold(stored["feature"].shape[1])

    def estimate(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """See `Baseline.estimate`."""
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(
            self.trees,
            max_depth=self.depth,
            min_samples_leaf=self.leaf,
            class_weight="balanced" if self.balanced else None,
            random_state=self.seed,
        ).fit(x, y)
        trees: list[Any] = [each.tree_ for each in forest.estimators_]
        self._hold(max(tree.node_count for tree in trees))
        for place, tree in enumerate(trees):
            own = slice(0, tree.node_count)
            for name, values in (
                ("feature", tree.feature),
                ("threshold", _floor32(tree.threshold)),
                ("below", np.stack([tree.children_left, tree.children_right], axis=1)),
                ("share", tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True)),
            ):
                getattr(self, name)[place, own] = torch.as_tensor(values)

    def scores(self, x: Tensor) -> Tensor:
        """See `Baseline.scores`."""
        tree = torch.arange(self.trees, device=x.device)
        node = torch.zeros(x.shape[0], self.trees, dtype=torch.long, device=x.device)
        while True:
            feature = self.feature[tree, node]
            inner = feature >= 0
            if not bool(inner.any()):
                break
            value = x.gather(1, feature.clamp(min=0))
            right = (value > self.threshold[tree, node]).long()
            node = torch.where(inner, self.below[tree, node, right], node)
        return (self.share[tree, node].mean(dim=1) + 1e-6).log()


def _floor32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Largest float32 not above: ``x <= t`` stays the same question for float32 x."""
    near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)
