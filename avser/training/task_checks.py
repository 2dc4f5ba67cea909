"""Checks of the settings of the training task."""

import math
import sys
from collections.abc import Mapping

from avser.errors import ConfigError
from avser.models.baselines.head import BaselineHead
from avser.models.encoders.base import AudioEncoder, VideoEncoder
from avser.models.heads import Head
from avser.models.net import EmotionNet, encoder_of
from avser.training.augment import Augment
from avser.training.image_augment import ImageAugment


def check_augment(
    augment: Augment | None,
    image_augment: ImageAugment | None,
    *,
    audio: AudioEncoder | None,
    video: VideoEncoder | None,
    head: Head,
) -> None:
    """Refuse augmentation that does not fit the encoders or the head."""
    if isinstance(head, BaselineHead):
        raise ConfigError(
            "Bad model.augment: a baseline is fitted on unchanged clips; set augment and "
            "image_augment to null."
        )
    both = audio is not None and video is not None
    if both and augment is not None and augment.mixup > 0:
        raise ConfigError(
            f"Bad augment.mixup {augment.mixup}: it mixes voices and labels but not faces; set "
            "model.augment.init_args.mixup to 0 in a net of both."
        )
    if image_augment is not None and video is None and audio is not None:
        if not audio.makes_image:
            raise ConfigError(
                f"Bad image_augment: {type(audio).__name__} makes no image of a clip; set it to "
                "null, or use TimmAudioEncoder."
            )
        if image_augment.mixup > 0 or image_augment.flip > 0:
            raise ConfigError(
                "Bad image_augment of a spectrogram: mirrored it is no sound, and voices are mixed "
                "by model.augment; set its flip and mixup to 0."
            )


def check_streams(
    net: EmotionNet, *, freeze: Mapping[str, int], lr_scale: Mapping[str, float]
) -> None:
    """Refuse streams that the net lacks, and a net that is frozen as a whole."""
    for stream in (*freeze, *lr_scale):
        encoder_of(net, stream)
    if net.fusion is None and freeze and all(freeze.get(name, 0) for name in net.heads):
        raise ConfigError(
            f"Bad freeze {dict(freeze)}: it leaves nothing that learns; leave out "
            f"{', '.join(net.heads)}, or add a fusion."
        )


_RANGES = {  # settings: what is legal, the least and the most
    "lr": ("above 0", math.ulp(0.0), sys.float_info.max),
    "decay": ("above 0", math.ulp(0.0), sys.float_info.max),
    "decay_epochs": ("1 or more", 1, sys.maxsize),
    "weight_decay": ("0 or more", 0.0, sys.float_info.max),
    "step_loss": ("0 or more", 0.0, sys.float_info.max),
    "auxiliary_loss": ("0 or more", 0.0, sys.float_info.max),
    "label_smoothing": ("0 to 1", 0.0, 1.0),
    "modality_dropout": ("0 to 1", 0.0, 1.0),
}


def check_ranges(task: object) -> None:
    """Refuse settings of a task that are out of range, or no number."""
    for name, (legal, least, most) in _RANGES.items():
        value = getattr(task, name)
        if not least <= value <= most:
            raise ConfigError(f"Bad model.{name} {value:g}: legal is {legal}.")
