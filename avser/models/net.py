"""Network of encoders, fusion and heads, and the choice of a head for each clip."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError, unknown
from avser.models.encoders.base import AudioEncoder, VideoEncoder
from avser.models.encoders.recurrent import State
from avser.models.frontends.base import full_precision
from avser.models.frontends.conditioning import has_sound, is_sound, sound_evidence
from avser.models.fusion.base import Fusion, StreamFusion
from avser.models.fusion.late import LateFusion
from avser.models.heads import Head
from avser.models.transforms import IDENTITY, Transforms
from avser.types import Batch

#: Heads in order of preference.
HEADS = ("fused", "audio", "video")
STREAMS = ("audio", "video")


@dataclass(frozen=True)
class HeadOutput:
    """Output of one head: ``logits [B, K]``, ``step_logits [B, T, K]``, ``mask [B, T]``.

    ``present [B]``: clips that have the head's input at all.
    """

    logits: Tensor
    step_logits: Tensor
    mask: Tensor
    present: Tensor


@dataclass(frozen=True)
class NetPrediction:
    """Calibrated probabilities of the head that is used for each clip.

    Attributes:
        probabilities: ``[B, K]``; rows of clips without signal are 0.
        step_probabilities: ``[B, T, K]``.
        mask: ``[B, T]``, steps with a signal.
        used: ``[B]`` int64, index into `HEADS`, or -1 where there is no signal.
    """

    probabilities: Tensor
    step_probabilities: Tensor
    mask: Tensor
    used: Tensor


class AudioBranch(nn.Module):
    """The audio branch of a net, from raw samples to calibrated probabilities.

    An audio-visual net predicts exactly this for clips without a face; ``avser export`` writes it.
    """

    temperature: Tensor

    def __init__(self, encoder: AudioEncoder, head: Head, temperature: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.register_buffer("temperature", temperature)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn ``[B, S], [B]`` into ``[B, K]``, ``[B, T, K]`` probabilities and ``mask [B, T]``."""
        x, mask = self.encoder(waveform, lengths)
        mask = mask & has_sound(waveform, lengths).unsqueeze(1)
        logits, steps = self.head(x, mask)
        return (
            (logits / self.temperature).softmax(dim=-1),
            (steps / self.temperature).softmax(dim=-1),
            mask,
        )

    def initial_state(self, size: int) -> State:
        """State of ``size`` clips before their first step, ``[B, ...]`` each.

        Raises:
            ConfigError: the encoder depends on later sound.
        """
        encoder = self.encoder.initial_state(size)
        return self.temperature.new_zeros(size, 4), *encoder, *self.head.initial_state(size)

    def advance(
        self, waveform: Tensor, lengths: Tensor, state: State
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Predict from the next step of each clip.

        After the last step, the clip's probabilities are those of `forward`, if it has sound. Steps
        before the first sound are invalid here and valid in `forward`, which knows the whole clip.

        Args:
            waveform: ``[B, 8192]``, zero after each clip's length.
            lengths: ``[B]`` valid samples of this step; only a clip's last step may have fewer.
            state: of `initial_state`, or of the step before.

        Returns:
            Probabilities ``[B, K]`` of all sound so far and of this step, ``mask [B]``, and the
            state for the next step.
        """
        evidence = sound_evidence(waveform, lengths, state[0])
        mine = 1 + len(self.encoder.initial_state(1))
        x, mask, encoder = self.encoder.advance(waveform, lengths, state[1:mine])
        logits, steps, head = self.head.advance(x, mask, state[mine:])
        return (
            (logits / self.temperature).softmax(dim=-1),
            (steps.squeeze(1) / self.temperature).softmax(dim=-1),
            mask.squeeze(1) & is_sound(evidence),
            (evidence, *encoder, *head),
        )


class EmotionNet(nn.Module):
    """Encoders of audio, video or both, a head for each, and a fusion with its own head.

    Args:
        audio: audio encoder, or None.
        video: video encoder, or None.
        fusion: settings of the fusion; required with both encoders, refused with one. The net
            keeps a copy, sized for its encoders.
        head: settings of a head; each stream gets its own copy.
        audio_head, video_head: settings of a stream's head, where they differ from ``head``.
        emotions: K class names; the order of all outputs.

    Attributes:
        outputs: names of the outputs of `forward`, in the order of `HEADS`.
    """

    face_mean: Tensor

    def __init__(
        self,
        *,
        audio: AudioEncoder | None = None,
        video: VideoEncoder | None = None,
        fusion: StreamFusion | None = None,
        head: Head,
        audio_head: Head | None = None,
        video_head: Head | None = None,
        emotions: tuple[str, ...],
    ) -> None:
        super().__init__()
        if audio is None and video is None:
            raise ConfigError("Bad net: it has no encoder; set audio, video, or both.")
        if (fusion is None) == (audio is not None and video is not None):
            raise ConfigError(
                "Bad net: fusion goes with both encoders and only then; set or remove fusion."
            )
        if len(emotions) < 2:
            raise ConfigError(f"Bad emotions {list(emotions)}: a classifier needs at least two.")
        if isinstance(fusion, Fusion) and audio is not None and video is not None:
            fusion = copy.deepcopy(fusion).build(audio.dim, video.dim)
        self.audio, self.video, self.fusion = audio, video, fusion
        self.emotions = tuple(emotions)
        self.heads = nn.ModuleDict()
        joint = fusion if isinstance(fusion, Fusion) else None
        settings = {"fused": head, "audio": audio_head or head, "video": video_head or head}
        for name, module in {"fused": joint, "audio": audio, "video": video}.items():
            if module is not None:
                own = copy.deepcopy(settings[name])
                self.heads[name] = own.build(module.dim, len(emotions))
        both = fusion is not None
        self.outputs = tuple(n for n in HEADS if n in self.heads or (both and n == "fused"))
        for name in self.outputs:
            self.register_buffer(f"temperature_{name}", torch.ones(()))
        # of an enrolled person; no part of the model, so that it is never stored
        self.register_buffer("face_mean", torch.zeros(len(emotions)), persistent=False)

    def temperature(self, name: str) -> Tensor:
        """The temperature buffer of a head, fitted on validation."""
        buffer = getattr(self, f"temperature_{name}")
        if not isinstance(buffer, Tensor):
            raise ConfigError(f"Bad head {name!r}: this net has {', '.join(self.outputs)}.")
        return buffer

    def centre_faces(self, mean: Tensor | None) -> None:
        """Subtract a person's mean log probabilities ``[K]`` from the face's; None undoes it.

        Some faces look happy or angry at rest. Centring leaves how an expression differs from the
        person's mean, so the clips of that mean must show several expressions.
        """
        self.face_mean.zero_() if mean is None else self.face_mean.copy_(mean)

    def encode(
        self, batch: Batch, *, transforms: Transforms = IDENTITY
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Run the encoders: stream ("audio", "video") to ``x [B, T, D], mask [B, T]``."""
        encoded: dict[str, tuple[Tensor, Tensor]] = {}
        if self.audio is not None and batch["audio_features"].shape[1]:
            features, frames = batch["audio_features"], batch["audio_mask"]
            encoded["audio"] = self.audio.from_features(
                features, frames, batch["speaker_statistics"], transforms=transforms
            )
        elif self.audio is not None:
            waveform, lengths = batch["waveform"], batch["lengths"]
            x, mask = self.audio(
                waveform, lengths, batch["speaker_statistics"], transforms=transforms
            )
            encoded["audio"] = x, mask & has_sound(waveform, lengths)[:, None]
        if self.video is not None:
            encoded["video"] = self.video(batch, transforms=transforms)
        return encoded

    def forward(self, batch: Batch, *, transforms: Transforms = IDENTITY) -> dict[str, HeadOutput]:
        """Run every head that the net has; keys are a subset of `HEADS`."""
        encoded = self.encode(batch, transforms=transforms)
        streams: dict[str, HeadOutput] = {}
        if isinstance(self.fusion, Fusion):
            streams["fused"] = self._fused(
                self.fusion, encoded, hidden_share=transforms.modality_dropout
            )
        return streams | self.run_heads(encoded, face_centre=transforms.face_centre)

    def _fused(
        self,
        fusion: Fusion,
        encoded: dict[str, tuple[Tensor, Tensor]],
        *,
        hidden_share: float,
    ) -> HeadOutput:
        """Fuse both streams and run the fused head.

        Args:
            fusion: of this net.
            encoded: as of `encode`.
            hidden_share: share of clips in which, in training, a run of steps of one stream is
                hidden from the fusion.
        """
        # one stream may outlast the other in the file: invalid steps fill the shorter one
        steps = max(x.shape[1] for x, _ in encoded.values())
        (audio, audio_mask), (video, video_mask) = (
            (F.pad(x, (0, 0, 0, steps - x.shape[1])), F.pad(m, (0, steps - m.shape[1])))
            for x, m in (encoded["audio"], encoded["video"])
        )
        both = audio_mask.any(dim=1) & video_mask.any(dim=1)
        if self.training and hidden_share > 0:
            audio_mask, video_mask = _hide(audio_mask, video_mask, share=hidden_share)
        x, mask = fusion(audio, audio_mask, video, video_mask)
        return self._head_output("fused", x, mask, both)

    def run_heads(
        self,
        encoded: dict[str, tuple[Tensor, Tensor]],
        *,
        face_centre: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> dict[str, HeadOutput]:
        """Run the heads on encoded streams; with both and late fusion, "fused" comes first.

        Args:
            encoded: stream to ``x [B, T, D], mask [B, T]``, as of `encode`.
            face_centre: see `Transforms`.
        """
        streams = {n: self._head_output(n, x, m, m.any(dim=1)) for n, (x, m) in encoded.items()}
        if "video" in streams:
            streams["video"] = self._centred_face(streams["video"], face_centre)
        if isinstance(self.fusion, LateFusion) and len(streams) == 2:
            late = self._late(self.fusion, streams["audio"], streams["video"])
            streams = {"fused": late, **streams}
        return streams

    def _centred_face(
        self, face: HeadOutput, face_centre: Callable[[Tensor, Tensor], Tensor] | None
    ) -> HeadOutput:
        """Subtract the person's own mean from the log probabilities of the face."""
        temperature = self.temperature("video")
        person = temperature * self.face_mean
        logits, steps = face.logits - person, face.step_logits - person
        if face_centre is not None:
            scores = (steps / temperature).log_softmax(dim=-1)
            mean = temperature * face_centre(scores, face.mask)
            shown = rearrange(face.mask, "b t -> b t 1")
            of_clip = (mean * shown).sum(dim=1) / shown.sum(dim=1).clamp(min=1)
            logits, steps = logits - of_clip, steps - mean
        return replace(face, logits=logits, step_logits=steps)

    def _late(self, fusion: LateFusion, audio: HeadOutput, video: HeadOutput) -> HeadOutput:
        """Join the calibrated predictions of both streams."""
        of_audio, of_video = self.temperature("audio"), self.temperature("video")
        steps, mask = fusion.join_steps(
            audio.step_logits / of_audio, audio.mask, video.step_logits / of_video, video.mask
        )
        return HeadOutput(
            logits=fusion(audio.logits / of_audio, video.logits / of_video),
            step_logits=steps,
            mask=mask,
            present=audio.present & video.present,
        )

    def _head_output(self, name: str, x: Tensor, mask: Tensor, present: Tensor) -> HeadOutput:
        with full_precision(x):
            logits, steps = self.heads[name](x.float(), mask)
        return HeadOutput(logits=logits, step_logits=steps, mask=mask, present=present)

    def predict(self, streams: dict[str, HeadOutput]) -> NetPrediction:
        """Choose a head per clip: fused if both streams are present, else that of the one present.

        Clips with neither have probabilities of 0 and ``used`` -1.
        """
        steps = max(s.mask.shape[1] for s in streams.values())
        first = next(iter(streams.values()))
        size, classes = first.logits.shape
        probabilities = first.logits.new_zeros(size, classes)
        step_probabilities = first.logits.new_zeros(size, steps, classes)
        mask = first.mask.new_zeros(size, steps)
        used = torch.full((size,), -1, device=first.logits.device)
        for index, name in reversed(list(enumerate(HEADS))):
            if name not in streams:
                continue
            stream, spare = streams[name], steps - streams[name].mask.shape[1]
            here = stream.present
            temperature = self.temperature(name)
            clip = (stream.logits / temperature).softmax(dim=-1)
            step = F.pad((stream.step_logits / temperature).softmax(dim=-1), (0, 0, 0, spare))
            probabilities = torch.where(here[:, None], clip, probabilities)
            step_probabilities = torch.where(here[:, None, None], step, step_probabilities)
            own = F.pad(stream.mask, (0, spare))
            # as logic, since onnxruntime has no choice between masks
            mask = (here[:, None] & own) | (~here[:, None] & mask)
            used = torch.where(here, index, used)
        return NetPrediction(
            probabilities=probabilities,
            step_probabilities=step_probabilities,
            mask=mask,
            used=used,
        )

    def audio_branch(self) -> AudioBranch:
        """The audio branch, sharing weights with this net.

        Raises:
            ConfigError: the net has no audio encoder.
        """
        if self.audio is None:
            raise ConfigError("Bad export: this net has no audio encoder; use one that has.")
        head = self.heads["audio"]
        if not isinstance(head, Head):
            raise ConfigError("Bad net: its audio head is not a Head.")
        return AudioBranch(self.audio, head, self.temperature("audio"))


def _hide(audio: Tensor, video: Tensor, *, share: float) -> tuple[Tensor, Tensor]:
    """Hide a run of steps of one stream, or all of it, in a share of clips; masks ``[B, T]``."""
    size, steps = audio.shape
    chosen = torch.rand(size, 1, device=audio.device) < share
    of_audio = torch.rand(size, 1, device=audio.device) < 0.5
    width = 2 * steps * torch.rand(size, 1, device=audio.device)  # half of the runs are all
    start = (steps - width).clamp(min=0) * torch.rand(size, 1, device=audio.device)
    index = torch.arange(steps, device=audio.device)
    hidden = (index >= start.floor()) & (index < start + width) & chosen
    return audio & ~(hidden & of_audio), video & ~(hidden & ~of_audio)


def encoder_of(net: EmotionNet, stream: str) -> nn.Module:
    """The encoder of a stream.

    Raises:
        ConfigError: there is no such stream, or the net lacks it.
    """
    if stream not in STREAMS:
        raise ConfigError(unknown("stream", stream, STREAMS))
    encoder = net.audio if stream == "audio" else net.video
    if encoder is None:
        raise ConfigError(f"Bad stream {stream!r}: this net has no {stream} encoder; leave it out.")
    return encoder
