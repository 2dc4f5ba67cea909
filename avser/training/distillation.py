"""Knowledge distillation: soft targets of released models on the student's own augmented input.

Source: Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR
2022, section 3: teacher and student see the very same augmented view, over many epochs.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Provenance
from avser.errors import ConfigError
from avser.models.net import EmotionNet
from avser.types import Batch

SEPARATOR = "+"  # several models teach by the mean of their probabilities


class Teacher:
    """Frozen models whose mean probabilities are a student's soft targets.

    Not an ``nn.Module``: its weights are no part of the student's checkpoints.

    Args:
        models: names, run folders or bundles, joined by ``+``.
        emotions: the student's K classes; each model must have them all.
        merge: classes of a model to classes of the student, such as calm to neutral.

    Raises:
        BundleError: a model is missing or damaged.
        ConfigError: a model lacks one of the student's classes.
    """

    def __init__(
        self, models: str, *, emotions: Sequence[str], merge: Mapping[str, str] | None = None
    ) -> None:
        loaded = [bundle.load(name) for name in models.split(SEPARATOR)]
        self.provenances: list[Provenance] = [m.provenance for m in loaded]
        self._nets = [m.net.eval().requires_grad_(False) for m in loaded]
        names = models.split(SEPARATOR)
        self._maps = [
            _class_map(net, emotions, merge=merge or {}, model=name)
            for net, name in zip(self._nets, names, strict=True)
        ]

    @torch.no_grad()
    def __call__(self, batch: Batch, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return soft targets ``[B, K]`` and ``present [B]``: clips that a model can judge.

        Args:
            batch: as the student sees it; parameters follow its device.
            temperature: divides the logits, beyond the models' own calibrated temperatures.
        """
        device = batch["waveform"].device
        targets, present = [], []
        for net, mapping in zip(self._nets, self._maps, strict=True):
            answer = net.to(device).answer(net(batch))
            soft = (answer.probabilities.float() ** (1 / temperature)) @ mapping.to(device)
            targets.append(soft / soft.sum(dim=1, keepdim=True).clamp(min=1e-9))
            present.append(answer.used >= 0)
        return torch.stack(targets).mean(dim=0), torch.stack(present).all(dim=0)


def _class_map(
    net: EmotionNet, emotions: Sequence[str], *, merge: Mapping[str, str], model: str
) -> Tensor:
    """Matrix ``[K_teacher, K]`` of zeros and ones; classes that the student lacks fall away."""
    names = [merge.get(name, name) for name in net.emotions]
    missing = [name for name in emotions if name not in names]
    if missing:
        raise ConfigError(
            f"Bad teacher {model!r}: it has no class {missing[0]!r}; choose a model of the "
            f"classes {', '.join(emotions)}."
        )
    matrix = torch.zeros(len(names), len(emotions))
    for row, name in enumerate(names):
        if name in emotions:
            matrix[row, list(emotions).index(name)] = 1
    return matrix
