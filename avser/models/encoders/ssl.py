"""Self-supervised speech encoders: wav2vec 2.0, HuBERT, WavLM (transformers, extra ``ssl``)."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, Self

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.encoders.backbone import connected
from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.recurrent import span_of
from avser.models.encoders.steps import group_by_step, mean_weights, repeat_over_steps
from avser.models.frontends.conditioning import Conditioning
from avser.models.frontends.samples import RawWaveform

Kind = Literal["wav2vec2", "hubert", "wavlm"]
Size = Literal["tiny", "base", "large"]

#: Sizes as their papers give them; tiny is for tests and dry runs.
_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": (8,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    },
    "base": {},  # what transformers has by default
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
    },
}
_WEIGHTS: dict[tuple[str, str], str] = {
    ("wav2vec2", "base"): "facebook/wav2vec2-base",
    ("wav2vec2", "large"): "facebook/wav2vec2-large-lv60",
    ("hubert", "base"): "facebook/hubert-base-ls960",
    ("hubert", "large"): "facebook/hubert-large-ll60k",
    ("wavlm", "base"): "microsoft/wavlm-base-plus",
    ("wavlm", "large"): "microsoft/wavlm-large",
}
_NO_BIAS_NO_SCALE = {"wavlm"}  # in the large one's convolutions; of the samples of the base one


class SslEncoder(AudioEncoder):
    """A self-supervised speech encoder, and a learnt weighted sum of its layers (SUPERB, 2021).

    Clips are encoded one by one: norms over time and positional convolutions would use a batch's
    padding. The frames of 20 ms are averaged over each step, or over the clip. A bundle holds all
    weights, frozen or not. SpecAugment and mixup do not apply: the features are samples.

    Args:
        kind: wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021) or WavLM (Chen et al.
            2022).
        size: base (95 M), large (317 M), or tiny, for which no weights exist.
        pretrained: False; True for the authors' weights (from the hub, or its cache); or a local
            folder as transformers writes it.
        tune: train the encoder too; otherwise only the weights of the sum are trained.
        span: "step" or "clip".
        trim_db, conditioning: see `AudioEncoder`.

    Raises:
        ConfigError: transformers is not installed, or the weights can't be loaded or do not fit.
    """

    def __init__(
        self,
        *,
        kind: Kind = "wavlm",
        size: Size = "base",
        pretrained: bool | str = False,
        tune: bool = False,
        span: Literal["step", "clip"] = "step",
        trim_db: float | None = 35.0,
        conditioning: Conditioning = "mean",
    ) -> None:
        super().__init__(
            frontend=RawWaveform(hop=320),
            normalise="none",
            trim_db=trim_db,
            conditioning=conditioning,
        )
        self.span = span
        self.scale = kind not in _NO_BIAS_NO_SCALE or size == "large"
        self.model = _create(kind, size, pretrained)
        config = self.model.config
        receptive, stride = 1, 1
        for kernel, step in zip(config.conv_kernel, config.conv_stride, strict=True):
            receptive, stride = receptive + (kernel - 1) * stride, stride * step
        self.spare = receptive - stride  # samples of the last frame beyond its hop
        self.tune = tune
        self.model.requires_grad_(tune)
        self.mix = nn.Parameter(torch.zeros(config.num_hidden_layers + 1))
        self.dim = int(config.hidden_size)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen encoder has no dropout."""
        super().train(mode)
        if not self.tune:
            self.model.eval()
        return self

    def encode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.encode`."""
        if torch.compiler.is_exporting():
            raise ConfigError(
                "Bad export: speech encoders of transformers run clip by clip, which no graph can; "
                "export a voice trained from scratch, such as configs/model/audio_crnn.yaml."
            )
        first, count = span_of(mask)
        x = features.new_zeros(*mask.shape, self.dim)
        for row, (start, length) in enumerate(zip(first.tolist(), count.tolist(), strict=True)):
            own = slice(start[0], start[0] + length[0])
            if bool(mask[row].any()):
                x[row, own] = self._frames(features[row, 0, :, own])
        x = x * mask.unsqueeze(-1).to(x.dtype)
        hop = self.frontend.hop
        if self.span == "clip":
            total = mask.sum(dim=1, keepdim=True).clamp(min=1).to(x.dtype)
            return repeat_over_steps(x.sum(dim=1) / total, mask, hop=hop)
        frames, valid = group_by_step(x, mask, hop=hop)
        return (frames * mean_weights(valid, frames)).sum(dim=2), valid.any(dim=2)

    def _frames(self, samples: Tensor) -> Tensor:
        """Turn one clip's ``[hop, n]`` into ``[n, D]``."""
        wave = rearrange(samples, "h n -> 1 (n h)")
        if self.scale:
            deviation = (wave.var(dim=1, keepdim=True, correction=0) + 1e-7).sqrt()
            wave = (wave - wave.mean(dim=1, keepdim=True)) / deviation
        wave = F.pad(wave, (self.spare // 2, self.spare - self.spare // 2))
        with nullcontext() if self.tune else torch.no_grad():
            states = self.model(wave, output_hidden_states=True).hidden_states
        weights = self.mix.softmax(dim=0)
        return torch.einsum("l,lnd->nd", weights, torch.stack(states).squeeze(1).float())


def _create(kind: Kind, size: Size, pretrained: bool | str) -> Any:  # noqa: ANN401
    """Make the network, from random or from released weights."""
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"Bad encoder {kind}: the package transformers is not installed; install avser[ssl]."
        ) from error
    names = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}
    settings = dict(_SIZES[size])
    if size == "large":
        settings["conv_bias"] = kind not in _NO_BIAS_NO_SCALE
    # masking and dropout in training are set by avser
    off = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0}
    config = getattr(transformers, f"{names[kind]}Config")(**settings, **off)
    model = getattr(transformers, f"{names[kind]}Model")
    if pretrained is False:
        return model(config)
    source = _WEIGHTS.get((kind, size), "") if pretrained is True else str(pretrained)
    if pretrained is not True and not Path(source).is_dir():
        raise ConfigError(
            f"Bad pretrained {source!r}: there is no such folder; name one that transformers "
            "wrote, or set it to true."
        )
    if not source:
        raise ConfigError(f"Bad pretrained true: there are no weights of size {size}.")
    return _load(model, config, source)


def _load(kind: Any, config: Any, source: str) -> Any:  # noqa: ANN401
    from transformers.utils import logging as hugging

    before = hugging.get_verbosity()
    hugging.set_verbosity(logging.ERROR)  # missing weights are reported below, in one sentence
    try:
        local = Path(source).is_dir() or not connected()
        model, info = kind.from_pretrained(
            source, config=config, output_loading_info=True, local_files_only=local
        )
    except Exception as error:  # of the hub, of its transport, of transformers: no common base
        raise ConfigError(
            f"Bad pretrained {source}: its weights are not in the cache and can't be fetched, or "
            "do not fit; connect to the internet once, name a local folder, or set it to false."
        ) from error
    finally:
        hugging.set_verbosity(before)
    lost = sorted(info["missing_keys"])
    if lost:
        raise ConfigError(
            f"Bad pretrained {source}: it lacks {len(lost)} tensors, {lost[0]!r} for one; choose "
            "its own kind and size."
        )
    return model
