"""Progressive resizing of images in training."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from pytorch_lightning import Callback, LightningModule, Trainer

from avser.errors import ConfigError
from avser.models.net import EmotionNet
from avser.training.task import EmotionTask


@runtime_checkable
class Resizable(Protocol):
    """An encoder that accepts images of any size.

    Attributes:
        image_size: rows and columns to which it resizes its images.
    """

    image_size: tuple[int, int]

    def resize(self, rows: int, columns: int) -> None:
        """Set the size."""


class ProgressiveResizing(Callback):
    """Trains on smaller images first, and finally at the size of the model's settings.

    Epochs at a smaller size are never selected: their score is logged 1 lower.
    Source: fast.ai's course; Howard & Gugger, "Fastai" (2020).

    Args:
        sizes: rows and columns of each stage before the last.
        shares: of the epochs that each of them takes; together under 1.

    Raises:
        ConfigError: the lists differ in length, or leave nothing for the last stage.
    """

    def __init__(
        self,
        *,
        sizes: list[tuple[int, int]],
        shares: list[float],
    ) -> None:
        if len(sizes) != len(shares) or not sizes or min(shares) <= 0 or sum(shares) >= 1:
            raise ConfigError(
                f"Bad sizes {sizes} and shares {shares}: give one share a size, together under 1."
            )
        self.sizes, self.shares = sizes, shares
        self._own: dict[int, tuple[int, int]] = {}

    def size_of(self, epoch: int, epochs: int) -> tuple[int, int] | None:
        """Size in an epoch, of that many in all; None is the model's own, as in the last epoch."""
        end = 0.0
        for size, share in zip(self.sizes, self.shares, strict=True):
            end += share * epochs
            if epoch < round(end) and epoch < epochs - 1:
                return size
        return None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the model's own size.

        Raises:
            ConfigError: the model has no encoder whose images may have any size.
        """
        self._own = {id(e): e.image_size for e in _resizable(pl_module)}
        if not self._own:
            raise ConfigError(
                "Bad callback ProgressiveResizing: no encoder of this model resizes images; leave "
                "it out, or use TimmAudioEncoder or TimmFacesEncoder."
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the epoch's size."""
        size = self.size_of(trainer.current_epoch, trainer.max_epochs or 1)
        self._resize(pl_module, size)
        if isinstance(pl_module, EmotionTask):
            pl_module.provisional = size is not None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the model's own size."""
        self._resize(pl_module, None)

    def _resize(self, task: LightningModule, size: tuple[int, int] | None) -> None:
        for encoder in _resizable(task):
            encoder.resize(*(size or self._own[id(encoder)]))


def _resizable(task: LightningModule) -> Iterator[Resizable]:
    """Encoders of both the trained net and its average."""
    for net in (getattr(task, "net", None), getattr(task, "averaged", None)):
        if isinstance(net, EmotionNet):
            for encoder in (net.audio, net.video):
                if isinstance(encoder, Resizable):
                    yield encoder
