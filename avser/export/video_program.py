"""Traced programs of nets that judge faces: of the whole net, or of its video branch."""

import copy

import torch
from einops import rearrange
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.export.program import traced
from avser.media.faces.collect import SIZE
from avser.models.encoders.faces import FaceEncoder
from avser.models.net import EmotionNet
from avser.models.transforms import IDENTITY, Transforms
from avser.types import STEP_SAMPLES, Batch

#: Inputs of a graph for sound and faces, and of one for faces alone, in order.
VIDEO_INPUTS = ("waveform", "lengths", "faces", "face_mask")
FACE_INPUTS = ("faces", "face_mask")

#: Outputs of either, in order.
VIDEO_OUTPUTS = ("probabilities", "step_probabilities", "step_mask", "used")

#: Of examples to trace: sizes that nothing else has, since equal sizes are taken for the same.
_CLIPS, _STEPS, _FACES = 5, 87, 3


class DenseFaces(nn.Module):
    """A face encoder that computes every crop and masks what is invalid.

    The encoder itself leaves invalid crops out, whose number a graph can't know.

    Args:
        encoder: in evaluation mode.
    """

    def __init__(self, encoder: FaceEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: Batch, *, transforms: Transforms = IDENTITY) -> tuple[Tensor, Tensor]:
        """See `FaceEncoder.forward`."""
        faces, valid = batch["faces"], batch["face_mask"]
        size, steps, each = valid.shape
        images = rearrange(faces, "b t n c h w -> (b t n) c h w").float() / 255
        vectors = rearrange(
            self.encoder.embed_mirrored(images), "(b t n) d -> b t n d", b=size, t=steps, n=each
        )
        return self.encoder.pool_crops(vectors, valid)


class WholeNet(nn.Module):
    """A net on sound and faces, from raw samples and crops to calibrated probabilities.

    Args:
        net: in evaluation mode; a copy is used.
    """

    def __init__(self, net: EmotionNet) -> None:
        super().__init__()
        self.net = _dense(net)

    def forward(
        self, waveform: Tensor, lengths: Tensor, faces: Tensor, face_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Turn ``[B, T, 8192], [B], [B, T, N, 3, H, W], [B, T, N]`` into `VIDEO_OUTPUTS`."""
        wave = waveform.flatten(1)
        inside = torch.arange(wave.shape[1], device=wave.device) < lengths[:, None]
        return _predicted(self.net, wave * inside.to(wave.dtype), lengths, faces, face_mask)


class FaceNet(nn.Module):
    """A net's video branch, from crops to calibrated probabilities.

    Args:
        net: in evaluation mode; a copy is used.
    """

    def __init__(self, net: EmotionNet) -> None:
        super().__init__()
        self.net = _dense(net)
        self.net.audio = self.net.fusion = None

    def forward(self, faces: Tensor, face_mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Turn ``[B, T, N, 3, H, W], [B, T, N]`` into `VIDEO_OUTPUTS`."""
        lengths = torch.zeros(faces.shape[0], dtype=torch.int64, device=faces.device)
        return _predicted(self.net, lengths.new_zeros(1, 0), lengths, faces, face_mask)


def _dense(net: EmotionNet) -> EmotionNet:
    """A copy of a net whose face encoder computes every crop.

    Raises:
        ConfigError: it has no encoder of face crops.
    """
    encoder = net.video
    if not isinstance(encoder, FaceEncoder):
        kind = "no video branch" if net.video is None else "a video branch that reads vectors"
        raise ConfigError(
            f"Bad export: this net has {kind}, so that no face can be judged; write its audio "
            "branch with --modality audio."
        )
    if "lips" in encoder.statistics:
        raise ConfigError(
            "Bad export: the face encoder has the statistic 'lips', which has no graph; train "
            "without it, or write the audio branch with --modality audio."
        )
    net = copy.deepcopy(net)
    encoder = copy.deepcopy(encoder)
    encoder.fold_norms()
    net.video = DenseFaces(encoder)  # type: ignore[assignment]  # the same call
    return net


def _predicted(
    net: EmotionNet, waveform: Tensor, lengths: Tensor, faces: Tensor, face_mask: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    none = faces.new_zeros(1, 0, 0, 0)
    batch = Batch(
        waveform=waveform,
        lengths=lengths,
        audio_features=none,
        audio_mask=none,
        faces=faces,
        face_mask=face_mask,
        video_features=none,
        speaker_statistics=none,
        label=lengths,
        clip_id=[],
    )
    prediction = net.predict(net(batch))
    return (
        prediction.probabilities,
        prediction.step_probabilities,
        prediction.mask,
        prediction.used,
    )


def whole_net(net: EmotionNet) -> torch.export.ExportedProgram:
    """Trace a net with both branches for any number of clips, steps and faces a step."""
    dynamic = torch.export.Dim.DYNAMIC
    example = torch.zeros(_CLIPS, _STEPS, STEP_SAMPLES), torch.full((_CLIPS,), 50_000)
    axes = {0: dynamic, 1: dynamic}, {0: dynamic}
    return traced(WholeNet(net), (*example, *_faces()), (*axes, *_face_axes()))


def face_net(net: EmotionNet) -> torch.export.ExportedProgram:
    """Trace a net's video branch for any number of clips, steps and faces a step."""
    return traced(FaceNet(net), _faces(), _face_axes())


def _faces() -> tuple[Tensor, Tensor]:
    shape = (_CLIPS, _STEPS, _FACES)
    crops = torch.zeros(*shape, 3, SIZE, SIZE, dtype=torch.uint8)
    return crops, torch.ones(shape, dtype=torch.bool)


def _face_axes() -> tuple[dict[int, object], dict[int, object]]:
    dynamic = torch.export.Dim.DYNAMIC
    return {0: dynamic, 1: dynamic, 2: dynamic}, {0: dynamic, 1: dynamic, 2: dynamic}
