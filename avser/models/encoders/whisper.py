"""Whisper's encoder: layers of a speech recogniser that carry emotion."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, Self, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.files import expand_home
from avser.models.encoders.backbone import connected
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.steps import group_by_step
from avser.models.frontends.base import full_precision
from avser.models.frontends.conditioning import Conditioning, condition
from avser.models.frontends.normaliser import Normaliser
from avser.models.frontends.whisper_mel import HOP, WhisperMel
from avser.models.heads import MASKED_SCORE
from avser.models.transforms import IDENTITY, Transforms
from avser.types import STEP_SAMPLES, steps_of

#: Width, attention heads and layers.
SIZES: Mapping[str, tuple[int, int, int]] = {
    "mini": (16, 2, 2),  # for tests and dry runs: no weights exist
    "tiny": (384, 6, 4),
    "base": (512, 8, 6),
    "small": (768, 12, 12),
    "medium": (1024, 16, 24),
}
PIECE_STEPS = 40  # 20.5 s: bounds the span of attention, whose memory grows with its square
_FRAME = 2 * HOP  # samples of an output frame: the second convolution halves the rate


class WhisperLayer(nn.Module):
    """A pre-norm transformer layer; its parameters are named as in transformers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self_attn = nn.ModuleDict(
            {f"{n}_proj": nn.Linear(width, width, bias=n != "k") for n in ("q", "k", "v", "out")}
        )
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Turn ``x [B, F, W]`` into the same; ``bias [B, 1, 1, F]`` is added to scores of keys."""
        normed = self.self_attn_layer_norm(x)
        query, key, value = (
            rearrange(self.self_attn[f"{n}_proj"](normed), "b f (h d) -> b h f d", h=self.heads)
            for n in ("q", "k", "v")
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        x = x + self.self_attn["out_proj"](rearrange(mixed, "b h f d -> b f (h d)"))
        hidden = F.gelu(self.fc1(self.final_layer_norm(x)))
        return cast(Tensor, x + self.fc2(hidden))


class WhisperNetwork(nn.Module):
    """Two convolutions and transformer layers over log-mel frames; loads Whisper's tensors.

    Args:
        width: W.
        heads: of the attention.
        layers: number of layers.
    """

    def __init__(self, *, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(WhisperMel.bins, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(WhisperLayer(width, heads) for _ in range(layers))

    @property
    def blocks(self) -> list[nn.Module]:
        """The convolutions as one, then each layer, in order."""
        return [nn.ModuleList([self.conv1, self.conv2]), *self.layers]

    def forward(self, mel: Tensor, mask: Tensor, *, frozen: int) -> tuple[list[Tensor], Tensor]:
        """Encode clips; outputs do not depend on frames outside the mask, and are undefined there.

        Args:
            mel: ``[B, 80, F]``, zero where invalid.
            mask: ``[B, F]``, valid frames, without gaps.
            frozen: number of first `blocks` that are computed without gradients.

        Returns:
            Outputs ``[B, F', W]`` of every block, and their mask ``[B, F']``; F' = ceil(F / 2).
        """
        with torch.no_grad() if frozen else nullcontext():
            x = F.gelu(self.conv1(mel)) * mask.unsqueeze(1).to(mel.dtype)
            x = rearrange(F.gelu(self.conv2(x)), "b w f -> b f w")
            x = x + positions(x.shape[1], x)
        mask = mask[:, ::2]
        bias = torch.where(mask, 0.0, MASKED_SCORE).to(x.dtype)[:, None, None, :]
        states = [x]
        for index, layer in enumerate(self.layers, 1):
            with torch.no_grad() if index < frozen else nullcontext():
                states.append(layer(states[-1], bias))
        return states, mask


def _pieces(steps: int) -> int:
    """Number of pieces of a clip of that many steps."""
    if not torch.compiler.is_exporting():
        return -(-steps // PIECE_STEPS)
    # as a value of the graph: torch.export would take "one" and "several" for different graphs
    count: int = (torch.arange(steps).max() // PIECE_STEPS + 1).item()  # type: ignore[assignment]
    torch._check(count >= 1)
    return count


def positions(frames: int, like: Tensor) -> Tensor:
    """Sinusoidal positions ``[F, W]``: sines, then cosines, of geometric frequencies."""
    half = like.shape[-1] // 2
    rates = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=like.device))
    angles = torch.arange(frames, device=like.device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(like.dtype)


class VectorNormaliser(Normaliser):
    """Standardises vectors by the training part, or by the clip's speaker where enrolled."""

    def forward(self, features: Tensor, mask: Tensor, reference: Tensor | None = None) -> Tensor:
        """See `Normaliser.forward`; without a reference, ``speaker`` is ``training``."""
        valid = rearrange(mask, "b f -> b 1 1 f").to(features.dtype)
        if self.mode == "none":
            return features * valid
        scaled = (features - self.mean) / self.deviation
        if self.mode == "speaker" and reference is not None and reference.shape[2]:
            mean, deviation = reference.unsqueeze(-1).unbind(dim=1)
            scaled = torch.where(mean.isnan(), scaled, (features - mean) / deviation)
        return scaled * valid


class WhisperEncoder(AudioEncoder):
    """Layers of Whisper's encoder (Radford et al. 2022), as mean and deviation over each step.

    Raw features of this encoder are the pooled outputs ``[B, L, 2 W, T]`` of the L joined layers.
    These vectors are normalised, so that enrolment and prepared features work on them too. Clips
    keep their length; longer ones are cut into pieces of 20.5 s, which are encoded independently.

    Args:
        size: tiny (W = 384, 4 layers), base (512, 6), small (768, 12), medium (1024, 24); mini is
            for tests and has no weights.
        pretrained: a hub name such as ``openai/whisper-tiny.en``, a local folder as transformers
            writes it, or null (false) for random weights.
        layers: number of layers to keep; null keeps all.
        join: layers whose outputs are concatenated, 0 being the convolutions; or "weighted" for a
            learnt weighted sum of all of them (SUPERB, Yang et al. 2021).
        tune: "none" freezes the network and stores it in half precision; "all" trains it; a number
            trains that many last layers.
        layer_decay: factor on the learning rate from each layer to the one before it.
        normalise: of the pooled vectors: "training" (mean and deviation of the training part),
            "speaker" (of the enrolled speaker, else "training"), or "none".
        conditioning: see `AudioEncoder`; Whisper's log-mel does not remove the level.

    Raises:
        ConfigError: a setting is not legal, or the weights can't be loaded or do not fit.
    """

    def __init__(
        self,
        *,
        size: Literal["mini", "tiny", "base", "small", "medium"] = "tiny",
        pretrained: bool | str | None = None,
        layers: int | None = None,
        join: tuple[int, ...] | Literal["weighted"] = (2, 3),
        tune: Literal["none", "all"] | int = "none",
        layer_decay: float = 1.0,
        normalise: Literal["training", "speaker", "none"] = "training",
        conditioning: Conditioning = "level",
    ) -> None:
        super().__init__(
            frontend=WhisperMel(), normalise=normalise, trim_db=None, conditioning=conditioning
        )
        width, heads, depth = SIZES[size]
        layers = depth if layers is None else layers
        if not 1 <= layers <= depth:
            raise ConfigError(f"Bad layers {layers}: Whisper {size} has 1 to {depth}.")
        joined = tuple(range(layers + 1)) if join == "weighted" else tuple(join)
        if (
            not joined
            or len(set(joined)) < len(joined)
            or not set(joined) <= set(range(layers + 1))
        ):
            raise ConfigError(
                f"Bad join {list(joined)}: legal are different layers from 0 (the convolutions) to "
                f"{layers}, or weighted."
            )
        if not isinstance(tune, str) and not 1 <= tune <= layers:
            raise ConfigError(f"Bad tune {tune}: legal is none, all, or 1 to {layers} last layers.")
        if not 0 < layer_decay <= 1:
            raise ConfigError(f"Bad layer_decay {layer_decay:g}: legal is over 0, up to 1.")
        self.joined, self.layer_decay = joined, layer_decay
        trained = {"none": 0, "all": layers + 1}.get(tune, 0) if isinstance(tune, str) else tune
        self.frozen = layers + 1 - trained  # first blocks of the network
        self.network = WhisperNetwork(width=width, heads=heads, layers=layers)
        if pretrained:
            name = f"openai/whisper-{size}" if pretrained is True else str(pretrained)
            load_whisper(self.network, name, size=size)
        self._freeze()
        self.normaliser = VectorNormaliser(channels=len(joined), bins=2 * width, mode=normalise)
        self.mix = nn.Parameter(torch.zeros(len(joined))) if join == "weighted" else None
        self.dim = 2 * width * (1 if join == "weighted" else len(joined))

    def _freeze(self) -> None:
        """Freeze blocks, and round their weights to float16, in which they are stored."""
        frozen = {p for block in self.network.blocks[: self.frozen] for p in block.parameters()}
        own = [name for name, p in self.network.named_parameters() if p in frozen]

        def halve(_: nn.Module, state: dict[str, Tensor], prefix: str, __: object) -> None:
            for name in own:
                state[prefix + name] = state[prefix + name].half()

        for parameter in frozen:
            parameter.requires_grad_(False)
            parameter.data = parameter.data.half().float()
        self.network.register_state_dict_post_hook(halve)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen network stays in evaluation mode."""
        super().train(mode)
        for block in self.network.blocks[: self.frozen]:
            block.eval()
        return self

    @property
    def constant_features(self) -> bool:
        """See `AudioEncoder.constant_features`: those of a frozen network."""
        return self.frozen == len(self.network.blocks)

    @property
    def needs_statistics(self) -> bool:
        """See `AudioEncoder.needs_statistics`."""
        return self.normaliser.mode != "none"

    def learning_rates(self) -> dict[str, tuple[nn.Module, float]]:
        """See `AudioEncoder.learning_rates`: `layer_decay` for each block under the last."""
        blocks = self.network.blocks
        return {
            str(index): (block, self.layer_decay ** (len(blocks) - 1 - index))
            for index, block in enumerate(blocks)
        }

    def frame_count(self, samples: int) -> int:
        """See `AudioEncoder.frame_count`; a frame of this encoder is a step."""
        return max(1, steps_of(samples))

    def raw_features(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled vectors ``[B, L, 2 W, T]`` and step mask ``[B, T]``, piece by piece."""
        return self._transformed(waveform, lengths, IDENTITY)

    def forward(
        self,
        waveform: Tensor,
        lengths: Tensor,
        reference: Tensor | None = None,
        *,
        transforms: Transforms = IDENTITY,
    ) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.forward`; augmentation is of log-mel frames, not of vectors."""
        if transforms.features is None:
            raw, mask = self._transformed(waveform, lengths, transforms)
        else:
            raw, mask = transforms.features(self, waveform, lengths)
        return self.from_features(raw, mask, reference)

    def _transformed(
        self, waveform: Tensor, lengths: Tensor, transforms: Transforms
    ) -> tuple[Tensor, Tensor]:
        """Do as `raw_features` does; in training, the log-mel frames are transformed."""
        waveform, _ = condition(waveform, lengths, mode=self.conditioning, reach="clip")
        steps = waveform.shape[1] // STEP_SAMPLES
        wide = cast(int, torch.sym_min(steps, PIECE_STEPS))  # traced, too
        count = _pieces(steps)
        waveform = F.pad(waveform, (0, (count * wide - steps) * STEP_SAMPLES))
        begin = torch.arange(count, device=waveform.device) * (wide * STEP_SAMPLES)
        own = (lengths[:, None] - begin).clamp(min=0, max=PIECE_STEPS * STEP_SAMPLES)
        pieces = waveform.reshape(-1, wide * STEP_SAMPLES)
        x, mask = self._pooled(pieces, own.flatten(), transforms)
        x = x.reshape(-1, count, *x.shape[1:]).permute(0, 2, 3, 1, 4).flatten(3)
        return x[..., :steps], mask.reshape(-1, count, mask.shape[1]).flatten(1)[:, :steps]

    def _pooled(
        self, waveform: Tensor, lengths: Tensor, transforms: Transforms
    ) -> tuple[Tensor, Tensor]:
        """Encode pieces ``[n, S]`` of whole steps: ``[n, L, 2 W, T]`` and ``[n, T]``."""
        frames = torch.arange((waveform.shape[1] + HOP - 1) // HOP, device=waveform.device)
        # as Whisper counts them: a last hop that is not full has no frame; a short clip has one
        mask = ((frames + 1) * HOP <= lengths.clamp(min=HOP)[:, None]) & (lengths > 0)[:, None]
        with full_precision(waveform):
            mel = self.frontend.forward_masked(waveform, mask)
        if self.training and transforms.spectrogram is not None:
            mel, mask = transforms.spectrogram(mel, mask)
        states, mask = self.network(mel.squeeze(1), mask, frozen=self.frozen)
        x = torch.cat([states[layer] for layer in self.joined], dim=-1).float()
        x, mask = group_by_step(x, mask, hop=_FRAME)
        share = mask.unsqueeze(-1) / mask.sum(dim=2, keepdim=True).clamp(min=1).unsqueeze(-1)
        mean = (x * share).sum(dim=2)
        variance = ((x - mean.unsqueeze(2)).square() * share).sum(dim=2)
        both = torch.stack([mean, (variance + 1e-5).sqrt()])
        return rearrange(both, "k b t (l w) -> b l (k w) t", l=len(self.joined)), mask.any(dim=2)

    def encode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.encode`; ``features [B, L, 2 W, T]``, ``mask [B, T]``."""
        if self.mix is None:
            return rearrange(features, "b l w t -> b t (l w)"), mask
        return torch.einsum("l,blwt->btw", self.mix.softmax(dim=0), features), mask


def load_whisper(network: WhisperNetwork, pretrained: str, *, size: str) -> None:
    """Load the encoder's tensors of released weights, of the layers that a network has.

    Args:
        network: its weights are replaced.
        pretrained: hub name, or local folder with ``model.safetensors``.
        size: of the network.

    Raises:
        ConfigError: the weights can't be loaded, or are of another size.
    """
    from safetensors import SafetensorError, safe_open

    path = _weights_file(pretrained)
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            starts = ("", "encoder.", "model.encoder.")
            start = next((s for s in starts if f"{s}conv1.weight" in names), "")
            lost = [n for n in network.state_dict() if start + n not in names]
            if lost:
                raise ConfigError(
                    f"Bad pretrained {pretrained}: it lacks {len(lost)} tensors of Whisper {size}, "
                    f"{lost[0]!r} for one; name Whisper's own weights of that size."
                )
            state = {n: file.get_tensor(start + n) for n in network.state_dict()}
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"Bad pretrained {pretrained}: {path.name} is damaged; get the weights anew."
        ) from error
    width = state["conv1.weight"].shape[0]
    if width != network.conv1.out_channels:
        fits = next((name for name, (w, *_) in SIZES.items() if w == width), "another one")
        raise ConfigError(
            f"Bad size {size}: the weights of {pretrained} have width {width}; set size to {fits}."
        )
    network.load_state_dict(state)


def _weights_file(pretrained: str) -> Path:
    """Path of the weights; those of the hub are downloaded into its cache once."""
    folder = expand_home(pretrained)
    if folder.is_dir():
        path = folder / "model.safetensors"
        if not path.is_file():
            raise ConfigError(
                f"Bad pretrained {pretrained}: the folder holds no model.safetensors; name one as "
                "transformers writes it."
            )
        return path
    from huggingface_hub import hf_hub_download

    try:
        local = not connected()
        return Path(hf_hub_download(pretrained, "model.safetensors", local_files_only=local))
    except Exception as error:  # of the hub and of its transport: no common base
        raise ConfigError(
            f"Bad pretrained {pretrained}: there is no such folder, and its weights are not in the "
            "cache and can't be fetched; connect to the internet once, name a local folder, or "
            "set it to null."
        ) from error
