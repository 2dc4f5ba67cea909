"""The LightningModule: losses, schedule, weight averaging and validation metrics."""

import copy
from time import perf_counter
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from avser.errors import ConfigError
from avser.models.encoders.base import AudioEncoder, VideoEncoder
from avser.models.encoders.feature_cache import FeatureCache
from avser.models.fusion.base import StreamFusion
from avser.models.heads import Head
from avser.models.net import EmotionNet, HeadOutput, encoder_of
from avser.models.transforms import Transforms
from avser.training.augment import Augment
from avser.training.data_module import LabelledDataModule
from avser.training.image_augment import ImageAugment
from avser.training.optimization import (
    OptimizerName,
    ScheduleName,
    make_optimizer,
    recall_mean,
    scheduled,
)
from avser.training.task_checks import check_augment, check_ranges, check_streams
from avser.training.transfer import (
    Teacher,
    freeze_stream,
    refuse_known_recordings,
    refuse_known_speakers,
    start_from,
)
from avser.types import Batch


class EmotionTask(LightningModule):
    """Trains an `EmotionNet`.

    A stream that starts from a model (``init``) and is always frozen (``freeze: -1``) keeps that
    model's encoder, statistics, head and temperature, and so its predictions.

    Args:
        audio: audio encoder, or null.
        video: video encoder, or null.
        fusion: fusion of both, or null.
        head: settings of the heads.
        audio_head, video_head: settings of a stream's head, where they differ from ``head``.
        emotions: class names; set by the data module.
        augment: augmentation of the sound of training batches; null for none.
        image_augment: augmentation of faces, or of an audio encoder's image; null for none.
        optimizer: its name.
        lr: peak learning rate.
        weight_decay: of AdamW and SGD; L2 for the others.
        schedule: one cycle (20 % warm-up, cosine), cosine without warm-up, exponential, constant.
        decay, decay_epochs: of the exponential schedule: factor, and epochs between two factors.
        class_weights: weight classes by inverse frequency in training (mean 1).
        label_smoothing: share that is spread over all classes.
        step_loss: weight of the loss on every step's own logits.
        auxiliary_loss: weight of the audio and video heads' losses beside the fused one's.
        ema: decay of the averaged weights that are validated and released; 0 turns it off.
        modality_dropout: share of training clips in which a run of steps of one stream, or all of
            it, is hidden from the fusion.
        init: stream ("audio", "video") to the model that initialises its weights.
        teacher: released models, run folders or bundles, joined by ``+``, whose mean probabilities
            on the same augmented batch are soft targets (`avser.training.transfer.Teacher`).
        teacher_weight: weight of the soft targets; the label has the rest.
        teacher_temperature: softens the teacher's probabilities; 1 changes nothing.
        freeze: stream to the number of first epochs in which it is frozen; -1 is all.
        lr_scale: stream to a factor on its encoder's learning rate, for fine-tuning.
        full_epochs: epochs of the published recipe; tables note a training with fewer.
    """

    class_weight: Tensor
    updates: Tensor
    score: Tensor

    def __init__(
        self,
        *,
        head: Head,
        emotions: tuple[str, ...],
        audio: AudioEncoder | None = None,
        video: VideoEncoder | None = None,
        fusion: StreamFusion | None = None,
        audio_head: Head | None = None,
        video_head: Head | None = None,
        augment: Augment | None = None,
        image_augment: ImageAugment | None = None,
        optimizer: OptimizerName = "adamw",
        lr: float = 2e-3,
        weight_decay: float = 0.05,
        schedule: ScheduleName = "one_cycle",
        decay: float = 0.9,
        decay_epochs: int = 1,
        class_weights: bool = True,
        label_smoothing: float = 0.1,
        step_loss: float = 0.3,
        auxiliary_loss: float = 0.5,
        ema: float = 0.995,
        modality_dropout: float = 0.2,
        init: dict[str, str] | None = None,
        freeze: dict[str, int] | None = None,
        lr_scale: dict[str, float] | None = None,
        full_epochs: int | None = None,
        teacher: str | None = None,
        teacher_weight: float = 0.8,
        teacher_temperature: float = 2.0,
    ) -> None:
        super().__init__()
        if not 0 <= ema < 1:
            raise ConfigError(f"Bad ema {ema}: legal is 0 (off) up to, not including, 1.")
        if augment is not None or image_augment is not None:
            check_augment(augment, image_augment, audio=audio, video=video, head=head)
        heads = {"head": head, "audio_head": audio_head or head, "video_head": video_head or head}
        self.net = EmotionNet(
            audio=audio, video=video, fusion=fusion, emotions=tuple(emotions), **heads
        )
        self.started_from = start_from(self.net, init) if init else []
        self.teacher_weight, self.teacher_temperature = teacher_weight, teacher_temperature
        self.teacher = self._load_teacher(teacher, teacher_weight, teacher_temperature)
        self.frozen_epochs, self.lr_scale = freeze or {}, lr_scale or {}
        self.kept = tuple(s for s in init or {} if self.frozen_epochs.get(s, 0) < 0)
        if self.frozen_epochs or self.lr_scale:
            check_streams(self.net, freeze=self.frozen_epochs, lr_scale=self.lr_scale)
        self.averaged = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.augment, self.image_augment = augment, image_augment
        self.optimizer, self.lr, self.weight_decay = optimizer, lr, weight_decay
        self.schedule, self.use_class_weights = schedule, class_weights
        self.decay, self.decay_epochs = decay, decay_epochs
        self.label_smoothing, self.step_loss = label_smoothing, step_loss
        self.auxiliary_loss, self.ema, self.full_epochs = auxiliary_loss, ema, full_epochs
        self.modality_dropout = modality_dropout
        constant = self.net.audio is not None and self.net.audio.constant_features
        self.feature_cache = FeatureCache() if constant else None
        check_ranges(self)
        self._make_metrics(len(emotions))

    def _make_metrics(self, classes: int) -> None:
        """Create the buffers of checkpoints, and the metrics of an epoch."""
        self.register_buffer("class_weight", torch.ones(classes))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.register_buffer("score", torch.tensor(torch.nan))
        self.clock, self.provisional = 0.0, False  # the latter is set by `ProgressiveResizing`
        self.train_loss, self.validation_loss = MeanMetric(), MeanMetric()
        self.train_confusion = MulticlassConfusionMatrix(classes)
        self.validation_confusion = MulticlassConfusionMatrix(classes)

    def _load_teacher(
        self, teacher: str | None, weight: float, temperature: float
    ) -> Teacher | None:
        """Load the teacher; its training data count as seen by the student."""
        if not 0 <= weight <= 1:
            raise ConfigError(f"Bad teacher_weight {weight}: legal is 0 to 1.")
        if temperature <= 0:
            raise ConfigError(
                f"Bad teacher_temperature {temperature}: legal is above 0; 1 changes nothing."
            )
        if teacher is None:
            return None
        loaded = Teacher(teacher, emotions=self.net.emotions)
        self.started_from = [*self.started_from, *loaded.provenances]
        return loaded

    @property
    def transforms(self) -> Transforms:
        """Transforms of a training batch."""
        has_video = self.net.video is not None
        return Transforms(
            features=self.feature_cache if self.augment is None else None,
            spectrogram=None if self.augment is None else self.augment.spectrogram,
            audio_images=None if has_video else self.image_augment,
            faces=self.image_augment if has_video else None,
            modality_dropout=self.modality_dropout,
        )

    # -- before training -------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """See `prepare`."""
        self.prepare(self.trainer.datamodule)  # type: ignore[attr-defined]

    def prepare(self, data: LabelledDataModule) -> None:
        """Compute class weights and normalisation statistics from the training part alone.

        Raises:
            ConfigError: a class has no training clip, or a model that it starts from has seen
                test speakers.
        """
        augment, audio = None if data.views is None else self.augment, self.net.audio
        if augment is not None and (
            augment.changes_sound or (audio is not None and not audio.spectrogram_features)
        ):
            raise ConfigError(
                f"Bad model.augment with data.views {data.views}: prepared features are not "
                "changed in training; set model.augment to null and use data.degrade instead, or, "
                "for an encoder of spectrograms, set its speed, gain_db and other changes of sound "
                "to 0."
            )
        if data.unlabelled and self.teacher is None:
            raise ConfigError(
                "Bad data.unlabelled true: clips without an emotion train nothing without a "
                "teacher; set model.teacher, or data.unlabelled to false."
            )
        if self.use_class_weights:
            counts = torch.tensor(data.class_counts(), dtype=torch.float32)
            weight = counts.sum() / counts
            self.class_weight.copy_(weight / weight.mean())
        if self.started_from and not data.split.mark:
            refuse_known_speakers(self.started_from, data.parts.test)
        elif self.started_from and data.split.leakproof:  # speakers are on both sides by choice
            refuse_known_recordings(self.started_from, data.parts.test, data.digests)
        self._fit_statistics(data)

    def _fit_statistics(self, data: LabelledDataModule) -> None:
        """Prepare features, and compute the encoders' statistics of the training part."""
        audio, video, averaged = self.net.audio, self.net.video, self.averaged.audio
        if audio is not None:
            data.prepare_features(audio)
        if self.teacher is not None and data.views is not None:
            data.prepare_features(self.teacher.frozen_encoder, teacher=True)
        needed = audio is not None and audio.needs_statistics and "audio" not in self.kept
        if audio is not None and averaged is not None and needed:
            audio.fit_statistics(data.views_loader(data.parts.train))
            for name in audio.fitted:
                averaged.get_buffer(name).copy_(audio.get_buffer(name))
        if audio is not None:
            if self.feature_cache is not None:
                self.feature_cache.clear()  # its features may depend on the old statistics
            data.enrol_speakers(audio)
        if video is not None and video.needs_statistics and "video" not in self.kept:
            for net in (self.net, self.averaged):
                if net.video is not None:
                    net.video.fit_statistics(data.loader(data.parts.train))

    def on_train_start(self) -> None:
        """Refuse to resume with a schedule of another number of epochs."""
        schedule: Any = self.lr_schedulers()
        made_for = getattr(schedule, "total_steps", getattr(schedule, "T_max", None))
        total = self._updates()
        if made_for not in (None, total):
            raise ConfigError(
                f"Bad max_epochs {self.trainer.max_epochs}: the schedule of this training was made "
                f"for {made_for} updates, these would be {total}; keep trainer.max_epochs, or "
                "train anew with --overwrite."
            )

    def _updates(self) -> int:
        """Updates of the whole training."""
        return max(2, int(self.trainer.estimated_stepping_batches))

    def new_optimizer(self) -> Optimizer:
        """A fresh optimizer of the net, at the peak of its schedule; needs no trainer."""
        scaled = {s: (encoder_of(self.net, s), factor) for s, factor in self.lr_scale.items()}
        if self.net.audio is not None:
            whole = self.lr_scale.get("audio", 1.0)
            parts = self.net.audio.learning_rates().items()
            scaled |= {f"audio.{name}": (part, whole * factor) for name, (part, factor) in parts}
        return make_optimizer(
            self.optimizer, self.net, scaled, lr=self.lr, weight_decay=self.weight_decay
        )

    def configure_optimizers(self) -> Any:  # noqa: ANN401 (Lightning takes six kinds)
        """Optimizer and schedule; see `avser.training.optimization`."""
        return scheduled(
            self.new_optimizer(),
            self.schedule,
            updates=1 if self.schedule in ("constant", "exponential") else self._updates(),
            decay=self.decay,
            decay_epochs=self.decay_epochs,
        )

    # -- training --------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Freeze streams that are not trained yet."""
        self.clock = perf_counter()
        for stream in self.frozen_epochs:
            freeze_stream(self.net, stream, self._is_frozen(stream), gradients=self._distributed)

    @property
    def _distributed(self) -> bool:
        return bool(self.trainer.world_size > 1)

    def _is_frozen(self, stream: str) -> bool:
        epochs = self.frozen_epochs.get(stream, 0)
        return bool(epochs < 0 or self.current_epoch < epochs)

    def on_after_backward(self) -> None:
        """Drop the gradients of frozen streams in a distributed training.

        The processes agree at the start which parameters have gradients, so frozen ones have some
        too. The optimizer skips parameters without a gradient.
        """
        if self._distributed:
            for stream in filter(self._is_frozen, self.frozen_epochs):
                for module in (encoder_of(self.net, stream), self.net.heads[stream]):
                    for parameter in module.parameters():
                        parameter.grad = None

    def _targets(self, label: Tensor, *, shares: Tensor | None = None) -> Tensor:
        """Smoothed one-hot rows ``[B, K]``; zeros (no loss) for unlabelled clips.

        Rows of ``shares`` that are not all 0 replace the one-hot ones.
        """
        classes = len(self.net.emotions)
        hot = F.one_hot(label.clamp(min=0), classes).to(self.class_weight.dtype)
        if shares is not None:
            hot = torch.where(shares.sum(dim=1, keepdim=True) > 0, shares.to(hot.dtype), hot)
        smooth = hot * (1 - self.label_smoothing) + self.label_smoothing / classes
        return smooth * (label >= 0)[:, None]

    def _soft_targets(self, target: Tensor, batch: Batch, teacher: Teacher) -> Tensor:
        """Mean of ``target [B, K]`` and the teacher's probabilities, by ``teacher_weight``.

        Clips without an emotion have the teacher's alone, those that it can't predict the label's.
        """
        probabilities, present = teacher(batch, temperature=self.teacher_temperature)
        labelled = batch["label"] >= 0
        weight = torch.where(labelled, self.teacher_weight, 1.0).to(target.dtype)
        share = (weight * present)[:, None]
        return (1 - share) * target + share * probabilities.to(target.dtype)

    def _loss(self, streams: dict[str, HeadOutput], target: Tensor) -> Tensor:
        """Cross-entropy of clips and, weighted, of steps to ``target [B, K]``, over all heads."""
        weighted, losses = -(target * self.class_weight), []
        for place, stream in enumerate(streams.values()):  # the fused one first, if there is one
            here, mask = stream.present.to(target.dtype), stream.mask.to(target.dtype)
            clip = (weighted * stream.logits.log_softmax(dim=-1)).sum(dim=-1)
            loss = (clip * here).sum() / here.sum().clamp(min=1)
            if self.step_loss > 0:
                steps = (weighted[:, None] * stream.step_logits.log_softmax(dim=-1)).sum(dim=-1)
                loss = loss + self.step_loss * (steps * mask).sum() / mask.sum().clamp(min=1)
            losses.append(loss * (self.auxiliary_loss if place else 1.0))
        return torch.stack(losses).sum()

    def training_loss(
        self, batch: Batch, *, transforms: Transforms | None = None
    ) -> tuple[Tensor, HeadOutput]:
        """Loss of an augmented batch, and the main head's stream; needs no trainer.

        Args:
            batch: is changed in place by augmentation.
            transforms: of the caller; None takes `transforms`.
        """
        target = self._targets(batch["label"], shares=batch.get("label_shares"))
        if self.augment is not None:
            self.augment(batch, epoch=self.current_epoch, video=self.net.video is not None)
        if self.teacher is not None:  # on the same augmented sound
            target = self._soft_targets(target, batch, self.teacher)
        if self.augment is not None and self.augment.mixup > 0:
            target = self.augment.labels(target)
        if self.image_augment is not None and self.net.audio is None:  # only faces are mixed
            present = batch["face_mask"].flatten(1).any(dim=1)
            self.image_augment.draw(len(target), target, present=present)
            target = self.image_augment.labels(target)
        streams = self.net(batch, transforms=transforms or self.transforms)
        return self._loss(streams, target), next(iter(streams.values()))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One update on an augmented batch."""
        loss, main = self.training_loss(batch)
        labelled = batch["label"] >= 0
        self.train_confusion.update(main.logits[labelled], batch["label"][labelled])
        size = len(batch["label"])
        self.train_loss.update(loss.detach(), size)
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        """Move the averaged weights towards the trained ones, after each optimizer step."""
        count = int(self.trainer.global_step)
        if count == int(self.updates):
            return  # gradients are still accumulated
        self.updates.fill_(count)
        decay = min(self.ema, (1 + count) / (10 + count))  # shorter memory in the first updates
        with torch.no_grad():
            for mean, new in zip(
                self.averaged.state_dict().values(), self.net.state_dict().values(), strict=True
            ):
                if mean.is_floating_point():
                    mean.lerp_(new, 1 - decay)
                else:
                    mean.copy_(new)

    def on_train_epoch_end(self) -> None:
        """Log loss, UAR and accuracy on the augmented training batches, and the duration."""
        self._log_loss("train", self.train_loss)
        self._log_uar("train", self.train_confusion)
        self._log("train/seconds", perf_counter() - self.clock)

    # -- validation ------------------------------------------------------------------------

    def validation_step(self, batch: Batch, index: int) -> None:
        """Evaluate the averaged weights on whole clips."""
        streams = self.averaged(batch, transforms=Transforms(features=self.feature_cache))
        prediction = self.averaged.predict(streams)
        loss = self._loss(streams, self._targets(batch["label"]))
        self.validation_confusion.update(prediction.probabilities, batch["label"])
        self.validation_loss.update(loss, len(batch["label"]))

    def on_validation_epoch_end(self) -> None:
        """Log validation UAR, and its running mean, by which the epoch is selected.

        UAR on a hundred clips varies by several points between epochs, and its maximum is mostly
        noise; a mean over about five epochs is more stable.
        """
        self._log_loss("validation", self.validation_loss)
        uar = self._log_uar("validation", self.validation_confusion)
        if not self.trainer.sanity_checking:
            first = bool(self.score.isnan())
            self.score.copy_(uar if first else 0.8 * self.score + 0.2 * uar)
            self._log("validation/score", self.score - float(self.provisional))

    def _log_uar(self, part: str, metric: MulticlassConfusionMatrix) -> Tensor:
        confusion = metric.compute().float()
        uar = recall_mean(confusion)
        right = confusion.diagonal().sum() / confusion.sum().clamp(min=1)
        self._log(f"{part}/accuracy", right)
        self._log(f"{part}/uar", uar, prog_bar=True)
        metric.reset()
        return uar

    def _log_loss(self, part: str, metric: MeanMetric) -> None:
        self._log(f"{part}/loss", metric.compute())
        metric.reset()

    def _log(self, name: str, value: Tensor | float, *, prog_bar: bool = False) -> None:
        """Log a figure that the metrics have already reduced over all processes.

        ``sync_dist`` would reduce it when it is first read. The progress bar reads it on the first
        process alone, which would then wait for the others in a different collective.
        """
        self.log(name, value, prog_bar=prog_bar)
