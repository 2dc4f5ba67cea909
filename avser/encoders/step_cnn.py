"""Convolutional encoder that hears each step of 0.512 s by itself."""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avser.encoders.base import AudioEncoder
from avser.errors import ConfigError
from avser.frontends.base import Frontend, NormaliserMode
from avser.types import STEP_SAMPLES


class ConvLayer(nn.Module):
    """Convolution, activation and max-pooling of images of known size.

    Args:
        inputs, outputs: channels.
        size: rows and frames that come in.
        kernel: rows and frames. One of all the rows leaves one row; any other is padded to keep
            the size.
        pool: rows and frames; at most as many as there are.
        leak: slope of the activation below 0; 0 is ReLU.

    Attributes:
        size: rows and frames that go out.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        size: tuple[int, int],
        kernel: tuple[int, int],
        pool: tuple[int, int],
        leak: float,
    ) -> None:
        super().__init__()
        rows, frames = size
        high, wide = kernel
        if not 1 <= high <= rows or not 1 <= wide <= frames:
            raise ConfigError(
                f"Bad kernel {high} x {wide}: the image has {rows} rows and {frames} frames there; "
                "make it no larger."
            )
        full = high == rows
        self.pad = ((wide - 1) // 2, wide // 2, *((0, 0) if full else ((high - 1) // 2, high // 2)))
        self.conv = nn.Conv2d(inputs, outputs, kernel)
        self.leak = leak
        rows = 1 if full else rows
        self.pool = min(pool[0], rows), min(pool[1], frames)
        self.size = rows // self.pool[0], frames // self.pool[1]

    def forward(self, x: Tensor) -> Tensor:
        """Turn ``[n, inputs, *size]`` into ``[n, outputs, *self.size]``."""
        x = F.leaky_relu(self.conv(F.pad(x, self.pad)), self.leak)
        return F.max_pool2d(x, self.pool)


class StepCnnEncoder(AudioEncoder):
    """Convolutions over the spectrogram of each step, cut out before it is transformed.

    A step knows nothing of other steps, as long as normalisation doesn't (``training``, ``none``);
    so it is causal whatever the front end, if nothing is trimmed.
    With a kernel as high as the spectrogram, such as 64 x 5, a filter is a pattern over all
    frequencies that is looked for in time; convolutions after it are 1 x n.
    Source: "Convoluting Feelings", whose nets S1 to R7 differ in these settings alone. Not stated
    there and fixed here: padding that keeps the size, dropout before the affine layer.

    Args:
        frontend, normalise, trim_db: see `AudioEncoder`; ``training`` is the paper's subtraction
            of the mean.
        size: rows and frames to which each step's image is resized by area; None leaves it.
        channels: filters of each convolution.
        kernels: rows and frames of each convolution.
        pools: rows and frames of the max-pooling after each; [1, 1] = none.
        leak: slope of activations below 0; 0 is ReLU.
        width: of the affine layer, and D.
        dropout: before the affine layer.

    Raises:
        ConfigError: the lists differ in length, or a kernel is larger than what it is for.
    """

    def __init__(
        self,
        *,
        frontend: Frontend,
        normalise: NormaliserMode = "training",
        trim_db: float | None = 35.0,
        size: tuple[int, int] | None = None,
        channels: tuple[int, ...] = (1024,),
        kernels: tuple[tuple[int, int], ...] = ((64, 5),),
        pools: tuple[tuple[int, int], ...] = ((1, 2),),
        leak: float = 0.0,
        width: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(frontend=frontend, normalise=normalise, trim_db=trim_db)
        if not len(channels) == len(kernels) == len(pools):
            raise ConfigError(
                f"Bad layers: {len(channels)} channels, {len(kernels)} kernels and {len(pools)} "
                "pools are given; give as many of each."
            )
        self.causal = not self.looks_ahead
        self.size = size
        self.leak = leak
        shape = size or (frontend.bins, frontend.frames_per_step)
        inputs = frontend.channels
        layers = []
        for outputs, kernel, pool in zip(channels, kernels, pools, strict=True):
            layer = ConvLayer(inputs, outputs, size=shape, kernel=kernel, pool=pool, leak=leak)
            layers.append(layer)
            inputs, shape = outputs, layer.size
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.affine = nn.Linear(inputs * shape[0] * shape[1], width)
        self.dim = width

    def hear(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """See `AudioEncoder.hear`: each step by itself, as if silence were around it."""
        steps = waveform.shape[1] // STEP_SAMPLES
        waveform = rearrange(waveform, "b (t s) -> (b t) s", t=steps)
        features = self.frontend.of_clips(waveform, rearrange(mask, "b (t f) -> (b t) f", t=steps))
        return rearrange(features, "(b t) c m f -> b c m (t f)", t=steps)

    def encode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.encode`."""
        each = self.frontend.frames_per_step
        valid = rearrange(mask, "b (t f) -> b t f", f=each).any(dim=2)
        x = rearrange(features, "b c m (t f) -> (b t) c m f", f=each)
        if self.size is not None:
            x = F.interpolate(x, self.size, mode="area")
        x = self.dropout(self.layers(x).flatten(1))
        x = F.leaky_relu(self.affine(x), self.leak)
        x = rearrange(x, "(b t) d -> b t d", t=valid.shape[1])
        return x * valid.unsqueeze(-1).to(x.dtype), valid
