"""Tiny networks, of every kind that the contracts know, for tests."""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from avser.bundle import serialization as bundle
from avser.models.encoders.base import VideoEncoder
from avser.models.encoders.crnn import CrnnEncoder
from avser.models.frontends.logmel import LogMel
from avser.models.fusion.base import Fusion
from avser.models.heads import AttentiveHead
from avser.models.net import EmotionNet
from avser.models.transforms import IDENTITY, Transforms
from avser.types import Batch


class MeanFusion(Fusion):
    """The sum of both streams' projections, over the steps that either has."""

    def __init__(self, *, dim: int = 8) -> None:
        super().__init__()
        self.dim = dim

    def build(self, audio_dim: int, video_dim: int) -> Self:
        """See `Fusion.build`."""
        self.audio = nn.Linear(audio_dim, self.dim)
        self.video = nn.Linear(video_dim, self.dim)
        return self

    def join(self, audio: Tensor, audio_mask: Tensor, video: Tensor, video_mask: Tensor) -> Tensor:
        """See `Fusion.join`."""
        x = self.audio(audio) * audio_mask[..., None] + self.video(video) * video_mask[..., None]
        return torch.tanh(x)


class VectorVideoEncoder(VideoEncoder):
    """Projects ``video_features``; a step is valid if any of its features is not zero."""

    def __init__(self, *, features: int, dim: int = 6) -> None:
        super().__init__()
        self.dim = dim
        self.project = nn.Linear(features, dim)

    def forward(self, batch: Batch, *, transforms: Transforms = IDENTITY) -> tuple[Tensor, Tensor]:
        """See `VideoEncoder.forward`."""
        x = batch["video_features"]
        return self.project(x), (x != 0).any(dim=-1)


def tiny_audio_encoder(*, causal: bool = False) -> CrnnEncoder:
    """A log-mel CRNN of some thousand parameters."""
    return CrnnEncoder(
        frontend=LogMel(bins=16, window=512, hop=512, n_fft=512, causal=causal),
        normalise="training" if causal else "utterance",
        trim_db=None if causal else 35.0,
        channels=(4, 8),
        pools=((2, 2), (2, 2)),
        width=16,
        hidden=8,
        causal=causal,
    )


def tiny_net(
    emotions: tuple[str, ...] = ("happy", "sad", "angry"), *, audio: bool = True, features: int = 0
) -> EmotionNet:
    """A net of sound, of precomputed picture features, or of both, in evaluation mode."""
    torch.manual_seed(0)
    sound = tiny_audio_encoder() if audio else None
    picture = VectorVideoEncoder(features=features) if features else None
    return EmotionNet(
        audio=sound,
        video=picture,
        fusion=MeanFusion() if sound is not None and picture is not None else None,
        head=AttentiveHead(hidden=8),
        emotions=emotions,
    ).eval()


def tiny_spec() -> dict[str, Any]:
    """Plain settings of the sound half of `tiny_net`: slots of a bundle, or of a configuration."""
    frontend = {
        "class_path": "avser.models.frontends.logmel.LogMel",
        "init_args": {"bins": 16, "window": 512, "hop": 512, "n_fft": 512},
    }
    settings = {
        "frontend": frontend,
        "normalise": "utterance",
        "channels": [4, 8],
        "pools": [[2, 2], [2, 2]],
        "width": 16,
        "hidden": 8,
    }
    return {
        "audio": {"class_path": "avser.models.encoders.crnn.CrnnEncoder", "init_args": settings},
        "head": {"class_path": "avser.models.heads.AttentiveHead", "init_args": {"hidden": 8}},
    }


def tiny_bundle(
    folder: Path,
    emotions: tuple[str, ...] = ("happy", "sad", "angry"),
    *,
    provenance: bundle.Provenance | None = None,
) -> Path:
    """Write the sound half of `tiny_net`, untrained, as a bundle called "tiny"."""
    return bundle.save(
        tiny_net(emotions),
        folder,
        spec=tiny_spec(),
        name="tiny",
        provenance=provenance or bundle.Provenance(),
    )
