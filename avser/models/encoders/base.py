"""Base classes of audio and video encoders."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.devices import device_of, on_device
from avser.models.encoders.recurrent import State
from avser.models.frontends.base import Frontend, full_precision, level_dbfs, valid_frames
from avser.models.frontends.conditioning import Conditioning, Reach, condition
from avser.models.frontends.normaliser import Normaliser, NormaliserMode
from avser.models.transforms import IDENTITY, Transforms
from avser.types import SAMPLE_RATE, STEP_SAMPLES, Batch, steps_of

PRIOR_S = 0.5  # of average sound, with which a running norm begins


class AudioEncoder(nn.Module, ABC):
    """Encodes samples as one vector per step; contains its front end.

    A subclass sets `dim` and `span` and writes `encode`. Statistics and recurrences respect
    lengths: a clip alone gives what the same clip gives padded in a batch.

    Args:
        frontend: samples to features.
        normalise: see `avser.models.frontends.normaliser.Normaliser`.
        trim_db: mask quiet edges this many dB below the clip's peak; None keeps all frames, as a
            causal encoder must.
        gate_dbfs: mask frames quieter than this, wherever they are; a causal encoder uses it
            instead of trimming. None keeps silence.
        conditioning: of the waveform before the front end; see
            `avser.models.frontends.conditioning`. The default is that of models older than 0.1.0.

    Attributes:
        dim: D, width of a step's vector.
        span: "step" if a vector describes its step (perhaps with context), "clip" if one vector
            describes the clip and is repeated.
        causal: no step depends on later sound.
        needs_left_context: features of a step depend on the sound before it.
        fitted: names of the buffers that `fit_statistics` sets.
        makes_image: the network's input is one image per clip.
    """

    dim: int
    makes_image: bool = False
    span: Literal["step", "clip"] = "step"
    causal: bool = False
    fitted: tuple[str, ...] = ("normaliser.mean", "normaliser.deviation")
    needs_left_context: bool = True

    def __init__(
        self,
        *,
        frontend: Frontend,
        normalise: NormaliserMode = "clip",
        trim_db: float | None = 35.0,
        gate_dbfs: float | None = None,
        conditioning: Conditioning = "mean",
    ) -> None:
        super().__init__()
        self.frontend = frontend
        self.conditioning: Conditioning = conditioning
        self.normaliser = Normaliser(
            channels=frontend.channels,
            bins=frontend.bins,
            mode=normalise,
            prior=round(PRIOR_S * SAMPLE_RATE / frontend.hop),
        )
        self.trim_db, self.gate_dbfs = trim_db, gate_dbfs

    def raw_features(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return un-normalised features ``[B, C, M, F]`` and the frame mask ``[B, F]``.

        The waveform is padded with zeros to a whole number of steps, at least one.
        """
        waveform, mask, _ = self.conditioned(waveform, lengths)
        with full_precision(waveform):
            return self.compute_features(waveform, mask), mask

    def frame_count(self, samples: int) -> int:
        """Number of frames of so many samples, padded to whole steps."""
        padded = max(1, steps_of(samples)) * STEP_SAMPLES
        return -(-padded // self.frontend.hop)

    def conditioned(
        self, waveform: Tensor, lengths: Tensor, before: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Condition ``[B, S]``; a causal encoder uses no later sound for it.

        Args:
            waveform: ``[B, S]``, zero after each clip's length.
            lengths: ``[B]`` valid samples.
            before: of a stream, the state that was returned for the steps before.

        Returns:
            The waveform, padded to whole steps, the frame mask ``[B, F]``, and the state.
        """
        reach: Reach = "clip"
        if self.causal:
            reach = "past" if self.needs_left_context else "step"
        waveform, after = condition(
            waveform, lengths, mode=self.conditioning, reach=reach, before=before
        )
        hop = self.frontend.hop
        mask = valid_frames(waveform, lengths, hop=hop, below_peak_db=self.trim_db)
        if self.gate_dbfs is not None:
            mask = mask & (level_dbfs(waveform, hop) > self.gate_dbfs)
        return waveform, mask, after

    def compute_features(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """Turn whole steps ``[B, S]`` with valid frames ``[B, F]`` into ``[B, C, M, F]``."""
        return self.frontend.forward_masked(waveform, mask)

    @property
    def looks_ahead(self) -> bool:
        """Whether trimming or normalisation uses later sound."""
        whole = self.normaliser.mode in ("utterance", "clip", "speaker")
        return whole or self.trim_db is not None

    @property
    def constant_features(self) -> bool:
        """Whether `raw_features` of a clip are constant in training."""
        return not list(self.frontend.parameters())

    @property
    def spectrogram_features(self) -> bool:
        """Whether `raw_features` are the front end's output, not vectors of a network."""
        kind = type(self)
        own = kind.compute_features, kind.raw_features
        return own == (AudioEncoder.compute_features, AudioEncoder.raw_features)

    def learning_rates(self) -> dict[str, tuple[nn.Module, float]]:
        """Parts whose learning rate is scaled: name to part and factor."""
        return {}

    @property
    def needs_statistics(self) -> bool:
        """Whether `fit_statistics` is to be called before training."""
        return self.normaliser.mode in ("training", "running")

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Compute statistics of the training part, where `needs_statistics`.

        Args:
            batches: iterated over several times.
        """
        if self.needs_statistics:
            self.normaliser.fit(*self._frame_sums(self.features_of(b) for b in batches))

    def reference(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Mean and deviation ``[2, C, M]`` of the valid frames of one speaker's clips.

        Args:
            batches: ``waveform [B, S]`` and ``lengths [B]``; labels are not needed.
        """
        home = device_of(self)
        return self._reference(self.raw_features(w.to(home), n.to(home)) for w, n in batches)

    def reference_of(self, batches: Iterable[Batch]) -> Tensor:
        """Do as `reference` does, for batches that may hold prepared features."""
        return self._reference(self.features_of(batch) for batch in batches)

    @torch.no_grad()
    def _reference(self, features: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        total, squares, count = self._frame_sums(features)
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=1e-6).sqrt()
        return torch.stack([mean, deviation]).cpu()  # datasets hold it, whatever trains

    @torch.no_grad()
    def features_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return `raw_features` of a batch's clips, or its prepared features if it has them."""
        batch = on_device(batch, device_of(self))
        if batch["audio_features"].shape[1]:
            return batch["audio_features"], batch["audio_mask"]
        return self.raw_features(batch["waveform"], batch["lengths"])

    @torch.no_grad()
    def _frame_sums(self, features: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, int]:
        """Sum and sum of squares ``[C, M]`` of valid frames, and their number."""
        home = self.normaliser.mean
        total, squares = torch.zeros_like(home[..., 0]), torch.zeros_like(home[..., 0])
        count = 0
        for raw, mask in features:
            valid = mask[:, None, None, :]
            total = total + (raw * valid).sum(dim=(0, 3))
            squares = squares + (raw.square() * valid).sum(dim=(0, 3))
            count += int(mask.sum())
        return total, squares, max(count, 1)

    def forward(
        self,
        waveform: Tensor,
        lengths: Tensor,
        reference: Tensor | None = None,
        *,
        transforms: Transforms = IDENTITY,
    ) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            waveform: ``[B, S]`` float32 at 16 kHz, zero after each clip's length.
            lengths: ``[B]`` valid samples.
            reference: of the speakers' frames, ``[B, 2, C, M]``, for the norm ``speaker``.
            transforms: of the caller, such as augmentation in training.

        Returns:
            ``x [B, T, D]`` and ``audio_mask [B, T]``; T = ceil(S / 8192), at least 1.
        """
        if transforms.features is None:
            raw, mask = self.raw_features(waveform, lengths)
        else:
            raw, mask = transforms.features(self, waveform, lengths)
        return self.from_features(raw, mask, reference, transforms=transforms)

    def from_features(
        self,
        features: Tensor,
        mask: Tensor,
        reference: Tensor | None = None,
        *,
        transforms: Transforms = IDENTITY,
    ) -> tuple[Tensor, Tensor]:
        """Do as `forward` does, from raw ``features [B, C, M, F]`` and ``mask [B, F]``."""
        return self.encode(*self.normalised(features, mask, reference, transforms=transforms))

    def normalised(
        self,
        features: Tensor,
        mask: Tensor,
        reference: Tensor | None,
        *,
        transforms: Transforms,
    ) -> tuple[Tensor, Tensor]:
        """Normalise raw features; in training, transform them. Arguments as of `from_features`."""
        features = self.normaliser(features, mask, reference)
        if self.training and transforms.spectrogram is not None:
            features, mask = transforms.spectrogram(features, mask)
        return features, mask

    # -- streams -------------------------------------------------------------------------------

    @property
    def not_streamable(self) -> str | None:
        """Reason in one sentence why it can't run on a stream; None if it can."""
        name = type(self).__name__
        if self.span == "clip":
            return f"{name} gives one vector for a whole clip, so that it has nothing to stream."
        if not self.causal:
            return (
                f"this {name} depends on sound after a step; train a causal one, such as "
                "configs/model/audio_stream.yaml."
            )
        return None

    def initial_state(self, size: int) -> State:
        """State of ``size`` clips before their first step, ``[B, ...]`` each.

        Raises:
            ConfigError: the encoder can't stream.
        """
        if self.not_streamable is not None:
            raise ConfigError(f"Bad stream: {self.not_streamable}")
        zeros = self.normaliser.mean.new_zeros(size, STEP_SAMPLES)
        norm, network = self.normaliser.initial_state(size), self.network_state(size)
        return *((zeros, zeros[:, :3].clone()) if self.needs_left_context else ()), *norm, *network

    def advance(
        self, waveform: Tensor, lengths: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Encode the next step of each clip; equals that step of `forward` on the whole clip.

        Args:
            waveform: ``[B, 8192]``, zero after each clip's length.
            lengths: ``[B]`` valid samples of this step; only a clip's last step may have fewer.
            state: of `initial_state`, or of the step before.

        Returns:
            ``x [B, 1, D]``, ``mask [B, 1]``, and the state for the next step.
        """
        carried = 2 if self.needs_left_context else 0  # the step before, and its conditioning
        norms = carried + len(self.normaliser.initial_state(1))
        waveform, mask, after = self.conditioned(waveform, lengths, state[1] if carried else None)
        frames = mask.shape[1]
        with full_precision(waveform):
            if carried:
                both = torch.cat([state[0], waveform], dim=1)
                raw = self.compute_features(both, F.pad(mask, (frames, 0), value=True))[
                    ..., frames:
                ]
            else:
                raw = self.compute_features(waveform, mask)
        features, norm = self.normaliser.advance(raw, mask, state[carried:norms])
        x, step_mask, network = self.encode_next(features, mask, state[norms:])
        return x, step_mask, (*((waveform, after) if carried else ()), *norm, *network)

    def network_state(self, size: int) -> State:
        """State of the network alone; empty if a step's vector depends on its own frames only."""
        return ()

    def encode_next(
        self, features: Tensor, mask: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Do as `encode` does, for one step that follows on a state of `network_state`."""
        return *self.encode(features, mask), ()

    @abstractmethod
    def encode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Turn ``features [B, C, M, F]`` and ``mask [B, F]`` into ``[B, T, D]`` and ``[B, T]``."""


class VideoEncoder(nn.Module, ABC):
    """Turns face crops, or precomputed vectors, into one vector a step.

    Attributes:
        dim: D, width of a step's vector.
        needs_statistics: whether `fit_statistics` is to be called before training.
    """

    dim: int
    needs_statistics: bool = False

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Compute statistics of the training part, where `needs_statistics`."""

    @abstractmethod
    def forward(self, batch: Batch, *, transforms: Transforms = IDENTITY) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            batch: with faces, or with precomputed vectors.
            transforms: of the caller, such as augmentation in training.

        Returns:
            ``x [B, T, D]`` and ``video_mask [B, T]``; a step is valid if any face is.
        """
