"""Convolutional encoder that processes each step of 0.512 s independently."""

from collections.abc import Iterable, Iterator

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.devices import device_of, on_device
from avser.models.encoders.base import AudioEncoder
from avser.models.frontends.base import Frontend
from avser.models.frontends.conditioning import Conditioning
from avser.models.frontends.normaliser import NormaliserMode
from avser.types import STEP_SAMPLES, Batch

PIECE = 4  # steps whose spectra are computed together: they fit a core's cache, 2.7 times as fast
SAMPLE = 1_000  # random values whose median replaces anomalies


class ConvLayer(nn.Module):
    """Convolution, activation and max-pooling of images of known size.

    Args:
        inputs, outputs: channels.
        size: rows and frames of the input.
        kernel: rows and frames. A kernel as high as the input leaves one row; any other is padded
            to keep the size.
        pool: rows and frames; larger ones are cut to the size.
        leak: slope of the activation below 0; 0 is ReLU.

    Attributes:
        size: rows and frames of the output.
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


class ValueSample:
    """Reservoir sampling: a uniform random sample of columns of a stream.

    Args:
        size: columns to keep.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._generator = torch.Generator().manual_seed(0)
        self._keys = torch.zeros(0)
        self._kept: Tensor | None = None

    def add(self, columns: Tensor) -> None:
        """Add columns ``[C, n]``; those with the highest random keys are kept."""
        keys = torch.cat([self._keys, torch.rand(columns.shape[1], generator=self._generator)])
        here = columns.cpu()
        pool = here if self._kept is None else torch.cat([self._kept, here], dim=1)
        self._keys, index = keys.topk(min(self._size, len(keys)))
        self._kept = pool[:, index]

    @property
    def values(self) -> Tensor:
        """The sample, ``[C, size]``, or all columns if there were fewer."""
        if self._kept is None:
            raise ConfigError("Bad training part: it has no clip to compute statistics from.")
        return self._kept


class StepCnnEncoder(AudioEncoder):
    """Convolutions over the spectrogram of each step, which is computed from its samples alone.

    Steps are independent if normalisation is (``training``, ``none``), so that the encoder is
    causal with any front end, unless it trims. With a kernel as high as the spectrogram, such as
    64 x 5, a filter is a pattern over all frequencies, and later convolutions are 1 x n.
    Source: "Convoluting Feelings", whose nets S1 to R7 differ only in these settings. Not stated
    there and fixed here: padding that keeps the size, dropout before the affine layer.

    Args:
        frontend, normalise, trim_db, conditioning: see `AudioEncoder`; ``training`` is the paper's
            subtraction of the mean.
        size: rows and frames to which each step's image is resized by area; None keeps its size.
        channels: filters of each convolution.
        kernels: rows and frames of each convolution.
        pools: rows and frames of the max-pooling after each; [1, 1] = none.
        leak: slope of activations below 0; 0 is ReLU.
        width: of the affine layer, and D; None has no such layer. Without convolutions too, a
            step's vector holds the values of its image.
        dropout: before the affine layer.
        pixel_mean: subtract the mean image of the training steps, pixel by pixel, as the paper
            does; use ``normalise: none`` with it.
        anomaly: number of deviations from the training mean of its plane beyond which a value is
            anomalous and replaced by the median of 1,000 random training values of the plane. The
            paper does not define anomalies; the usual one is digital silence, at the logarithm's
            floor. None replaces nothing.

    Raises:
        ConfigError: the lists differ in length, or a kernel is larger than its input.
    """

    image: Tensor
    usual: Tensor
    centre: Tensor
    reach: Tensor
    needs_left_context = False

    def __init__(
        self,
        *,
        frontend: Frontend,
        normalise: NormaliserMode = "training",
        trim_db: float | None = 35.0,
        conditioning: Conditioning = "mean",
        size: tuple[int, int] | None = None,
        channels: tuple[int, ...] = (1024,),
        kernels: tuple[tuple[int, int], ...] = ((64, 5),),
        pools: tuple[tuple[int, int], ...] = ((1, 2),),
        leak: float = 0.0,
        width: int | None = 64,
        dropout: float = 0.0,
        pixel_mean: bool = False,
        anomaly: float | None = None,
    ) -> None:
        super().__init__(
            frontend=frontend, normalise=normalise, trim_db=trim_db, conditioning=conditioning
        )
        if anomaly is not None and anomaly <= 0:
            raise ConfigError(f"Bad anomaly {anomaly:g}: legal is more than 0 deviations, or null.")
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
        values = inputs * shape[0] * shape[1]
        self.affine = None if width is None else nn.Linear(values, width)
        self.dim = width or values
        self.pixel_mean, self.anomaly = pixel_mean, anomaly
        planes = frontend.channels
        # kept only where they are used: older bundles have none
        if pixel_mean:
            image = torch.zeros(planes, frontend.bins, frontend.frames_per_step)
            self.register_buffer("image", image)
            self.fitted = (*self.fitted, "image")
        if anomaly is not None:
            for name in ("usual", "centre", "reach"):
                fill = torch.full((planes, 1, 1), torch.finfo().max if name == "reach" else 0.0)
                self.register_buffer(name, fill)
                self.fitted = (*self.fitted, name)

    def compute_features(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """See `AudioEncoder.compute_features`; steps are independent, padded with silence."""
        steps = waveform.shape[1] // STEP_SAMPLES
        x = self._plausible(self._images(waveform, mask))
        if self.pixel_mean:
            x = x - self.image
        return rearrange(x, "(b t) c m f -> b c m (t f)", t=steps)

    def _images(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """Images of all steps ``[B T, C, M, f]`` as the front end gives them."""
        steps = waveform.shape[1] // STEP_SAMPLES
        waveform = rearrange(waveform, "b (t s) -> (b t) s", t=steps)
        mask = rearrange(mask, "b (t f) -> (b t) f", t=steps)
        if waveform.is_cuda or torch.compiler.is_exporting():
            return self.frontend.forward_masked(waveform, mask)
        pieces = zip(torch.split(waveform, PIECE), torch.split(mask, PIECE), strict=True)
        return torch.cat([self.frontend.forward_masked(wave, valid) for wave, valid in pieces])

    def _plausible(self, x: Tensor) -> Tensor:
        """Replace anomalous values."""
        if self.anomaly is None:
            return x
        return torch.where((x - self.centre).abs() > self.reach, self.usual, x)

    @property
    def needs_statistics(self) -> bool:
        """See `AudioEncoder.needs_statistics`."""
        return super().needs_statistics or self.pixel_mean or self.anomaly is not None

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """See `AudioEncoder.fit_statistics`: anomalies, then the mean image, then the norm."""
        if self.anomaly is not None:
            self._fit_anomalies(batches, self.anomaly)
        if self.pixel_mean:
            total, count = torch.zeros_like(self.image), torch.zeros_like(self.image[0, 0])
            for x, valid in self._pieces(batches):
                total += (self._plausible(x) * valid[:, None, None]).sum(dim=0)
                count += valid.sum(dim=0)
            self.image.copy_(total / count.clamp(min=1))
        super().fit_statistics(batches)

    def _fit_anomalies(self, batches: Iterable[Batch], deviations: float) -> None:
        total = torch.zeros_like(self.usual, dtype=torch.float64)
        squares, count = torch.zeros_like(total), 0
        kept = ValueSample(SAMPLE)
        for x, valid in self._pieces(batches):
            values = rearrange(x, "n c m f -> c m n f")[:, :, valid].flatten(1)  # [C, n]
            total += values.double().sum(dim=1)[:, None, None]
            squares += values.double().square().sum(dim=1)[:, None, None]
            count += values.shape[1]
            kept.add(values)
        mean = total / max(count, 1)
        deviation = (squares / max(count, 1) - mean.square()).clamp(min=0).sqrt()
        self.centre.copy_(mean)
        self.reach.copy_(deviations * deviation)
        self.usual.copy_(kept.values.median(dim=1).values[:, None, None])

    def _pieces(self, batches: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images ``[n, C, M, f]`` of all steps, and their valid frames ``[n, f]``."""
        home = device_of(self)
        for batch in batches:
            batch = on_device(batch, home)
            waveform, mask, _ = self.conditioned(batch["waveform"], batch["lengths"])
            steps = waveform.shape[1] // STEP_SAMPLES
            yield self._images(waveform, mask), rearrange(mask, "b (t f) -> (b t) f", t=steps)

    def encode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder.encode`."""
        each = self.frontend.frames_per_step
        valid = rearrange(mask, "b (t f) -> b t f", f=each).any(dim=2)
        x = rearrange(features, "b c m (t f) -> (b t) c m f", f=each)
        if self.size is not None:
            x = F.interpolate(x, self.size, mode="area")
        x = self.dropout(self.layers(x).flatten(1))
        if self.affine is not None:
            x = F.leaky_relu(self.affine(x), self.leak)
        x = rearrange(x, "(b t) d -> b t d", t=valid.shape[1])
        return x * valid.unsqueeze(-1).to(x.dtype), valid
