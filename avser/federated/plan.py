"""Training plan: plain settings that the server sends with every offer.

A client builds the network from them as a bundle is built: classes under ``avser.`` alone, each of
its slot's kind. Nothing that the server sends is executed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from avser.errors import BundleError, ConfigError
from avser.models.factory import SLOTS, build
from avser.training.augment import Augment
from avser.training.image_augment import ImageAugment
from avser.training.task import EmotionTask

_MODULES = {**SLOTS, "augment": Augment, "image_augment": ImageAugment}

#: Settings of `EmotionTask` that clients use. Schedule, averaging and freezing are the server's.
_NUMBERS = (
    "optimizer",
    "lr",
    "weight_decay",
    "class_weights",
    "label_smoothing",
    "step_loss",
    "auxiliary_loss",
    "modality_dropout",
    "lr_scale",
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of the network and of local training.

    Attributes:
        model: slots, augmentation and losses, as the configuration's ``model`` has them.
        emotions: classes, in the order of the network's outputs.
        merge: classes counted as others.
        local_epochs, batch_size: of local training.
        crop_s, trim: of training clips, as the data module has them.
        holdout_share: share of a client's clips that it holds out for evaluation.
        bfloat16: whether convolutions run in bfloat16.
        clip_gradient: largest norm of a batch's gradient; 0 is none.
        proximal: weight of FedProx's term.
        clip_update: norm to which a client clips its own update before it is masked; 0 is none.
    """

    model: Mapping[str, Any]
    emotions: tuple[str, ...]
    merge: Mapping[str, str] = field(default_factory=dict)
    local_epochs: int = 1
    batch_size: int = 16
    crop_s: float | None = 4.0
    trim: bool = True
    holdout_share: float = 0.125
    bfloat16: bool = False
    clip_gradient: float = 5.0
    proximal: float = 0.0
    clip_update: float = 0.0

    def to_json(self) -> str:
        """Serialise; equal plans give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Parse a plan.

        Raises:
            ConfigError: the text is no plan.
        """
        try:
            values = json.loads(text)
            plan = cls(**{**values, "emotions": tuple(values["emotions"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"Bad plan of the server: {error}; update avser.") from error
        if not 1 <= plan.local_epochs <= 1000 or not 1 <= plan.batch_size <= 100_000:
            raise ConfigError("Bad plan of the server: local training is out of its range.")
        return plan

    @property
    def digest(self) -> str:
        """Sixteen hex digits of the plan."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def spec(self) -> dict[str, Any]:
        """Settings of the network's slots, as in a bundle."""
        return {slot: self.model.get(slot) for slot in SLOTS}


def plan_of(config: Mapping[str, Any], **local: Any) -> Plan:  # noqa: ANN401
    """Make a plan from the ``model`` part of a configuration."""
    names = (*_MODULES, *_NUMBERS)
    model = {name: config[name] for name in names if config.get(name) is not None}
    return Plan(model=model, **local)


def build_task(plan: Plan, *, seed: int = 0) -> EmotionTask:
    """Build network and losses; the weights are drawn anew from a seed.

    Raises:
        BundleError: a class is not allowed, or settings do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            name: build(spec, base)
            for name, base in _MODULES.items()
            if (spec := plan.model.get(name)) is not None
        }
        numbers = {name: plan.model[name] for name in _NUMBERS if name in plan.model}
        try:
            return EmotionTask(**parts, **numbers, emotions=plan.emotions, ema=0.0)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise BundleError(f"Bad model settings: {error}.") from error
