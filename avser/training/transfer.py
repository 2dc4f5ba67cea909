"""Transfer from released models: initial weights, frozen streams, soft targets of teachers.

A stream is an encoder with its own head. The training data of a model or teacher count as seen by
the net that starts from it: a test part with one of those speakers is refused.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Provenance
from avser.data.splits import clip_name
from avser.errors import ConfigError
from avser.models.baselines.head import BaselineHead
from avser.models.encoders.base import AudioEncoder
from avser.models.net import EmotionNet, encoder_of
from avser.types import Batch, Clip

SEPARATOR = "+"  # between several teachers


def start_from(net: EmotionNet, models: Mapping[str, str]) -> list[Provenance]:
    """Copy streams' weights from released models; heads too, if the classes are the same.

    Args:
        net: its weights are replaced.
        models: stream to name or folder of a model.

    Returns:
        Provenance of those models.

    Raises:
        ConfigError: a stream is unknown, or the model's encoder is of another shape.
        BundleError: a model is missing or damaged.
    """
    provenances: list[Provenance] = []
    for stream, model in models.items():
        target = encoder_of(net, stream)
        loaded = bundle.load(model)
        try:
            target.load_state_dict(encoder_of(loaded.net, stream).state_dict())
        except RuntimeError as error:
            raise ConfigError(
                f"Bad init.{stream} {model!r}: its encoder has other settings than model.{stream}; "
                "copy them from its config.yaml."
            ) from error
        _start_head(net, stream, loaded.net, model)
        net.temperature(stream).copy_(loaded.net.temperature(stream))
        provenances.append(loaded.provenance)
    return provenances


def _start_head(net: EmotionNet, stream: str, trained: EmotionNet, model: str) -> None:
    head = net.heads[stream]
    scores = head.scores if isinstance(head, BaselineHead) else None
    same = trained.emotions == net.emotions
    state = trained.heads[stream].state_dict()
    if same and scores is None and isinstance(head, BaselineHead):
        prefix = "baseline."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        head.baseline.make_room({k: v for k, v in own.items() if "." not in k})
    try:
        if same or scores is not None:
            (scores or head).load_state_dict(state)
    except RuntimeError as error:
        if scores is not None:  # the baseline would be fitted on scores of random weights
            raise ConfigError(
                f"Bad init.{stream} {model!r}: its head is not model.head.init_args.scores; give "
                "that the class and the settings of the model's head, and the same classes."
            ) from error
        # another kind of head: it is trained anew


def refuse_known_speakers(models: Sequence[Provenance], test: Sequence[Clip]) -> None:
    """Refuse a start from a model that was trained on speakers of the test part.

    Validation speakers are not compared: a model of the same fold has them too.

    Args:
        models: provenance of the models.
        test: clips of the test part.

    Raises:
        ConfigError: there is such a speaker.
    """
    known = {speaker for p in models for speaker in p.speakers}
    seen = sorted({c.speaker for c in test} & known)
    if seen:
        raise ConfigError(
            f"Bad init: its model was trained on {seen[0]}, who is in the test part ({len(seen)} "
            "speakers in all); start from a model of the same fold, such as "
            "RUN/seed{seed}/fold{fold}."
        )


def refuse_known_recordings(
    models: Sequence[Provenance], test: Sequence[Clip], digests: Mapping[str, str]
) -> None:
    """Refuse a start from a model that was trained on recordings of the test part.

    For splits that have speakers in several parts by design.

    Args:
        models: provenance of the models.
        test: clips of the test part.
        digests: `clip_name` to hash of the decoded samples.

    Raises:
        ConfigError: there is such a recording.
    """
    known = {digest for p in models for digest in p.digests}
    known_clips = [clip_name(c) for c in test if digests[clip_name(c)][:16] in known]
    if known_clips:
        raise ConfigError(
            f"Bad init: its model was trained on {known_clips[0]}, which is in the test part "
            f"({len(known_clips)} in all); start from a model of the same split."
        )


def freeze_stream(net: EmotionNet, stream: str, frozen: bool, *, gradients: bool = False) -> None:
    """Freeze or unfreeze a stream; a frozen one is in evaluation mode (batch norm, dropout).

    Args:
        net: that has the stream.
        stream: "audio" or "video".
        frozen: whether it is frozen.
        gradients: compute gradients of a frozen stream too; the caller drops them.
    """
    for module in (encoder_of(net, stream), net.heads[stream]):
        module.requires_grad_(gradients or not frozen)
        module.train(not frozen)


class Teacher:
    """Frozen models whose mean probabilities are a student's soft targets.

    Source: Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR
    2022, section 3: teacher and student see the very same augmented view, over many epochs.

    Not an ``nn.Module``, so that its weights are not in the student's checkpoints.

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

    @property
    def frozen_encoder(self) -> AudioEncoder:
        """Audio encoder of the teacher, for computing its outputs on views once.

        Raises:
            ConfigError: there are several models, or it uses faces.
        """
        audio = self._nets[0].audio
        if len(self._nets) > 1 or audio is None or self._nets[0].video is not None:
            raise ConfigError(
                "Bad model.teacher with data.views: prepared views are for one teacher of the "
                "voice alone; give one such model, or set data.views to null."
            )
        return audio

    @torch.no_grad()
    def __call__(self, batch: Batch, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return soft targets ``[B, K]`` and ``present [B]``: clips with signal for every model.

        Args:
            batch: as the student sees it; parameters follow its device. Prepared features of the
                teacher's encoder take the place of the samples.
            temperature: divides the logits, beyond the models' own calibrated temperatures.
        """
        device = batch["waveform"].device
        if "teacher_features" in batch:
            batch = batch.copy()
            batch["audio_features"] = batch["teacher_features"]
            batch["audio_mask"] = batch["teacher_mask"]
        targets, present = [], []
        for net, mapping in zip(self._nets, self._maps, strict=True):
            prediction = net.to(device).predict(net(batch))
            soft = (prediction.probabilities.float() ** (1 / temperature)) @ mapping.to(device)
            targets.append(soft / soft.sum(dim=1, keepdim=True).clamp(min=1e-9))
            present.append(prediction.used >= 0)
        return torch.stack(targets).mean(dim=0), torch.stack(present).all(dim=0)


def _class_map(
    net: EmotionNet, emotions: Sequence[str], *, merge: Mapping[str, str], model: str
) -> Tensor:
    """Matrix ``[K_teacher, K]`` of zeros and ones; classes that the student lacks are dropped."""
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
