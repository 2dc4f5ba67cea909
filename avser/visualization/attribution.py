"""Attribution of a prediction to steps, frequency bands and face regions.

Steps: the attention weights of the head, and the probability that is lost without a step.
Bands and regions: Grad-CAM (Selvaraju et al., ICCV 2017), the activations of a convolution weighted
by their mean gradients, of the last layer whose map is not yet too coarse.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError, SignalError, unknown
from avser.media.faces.collect import EYES
from avser.models.encoders.faces import FaceEncoder
from avser.models.frontends.base import Frontend
from avser.models.heads import AttentiveHead, masked_softmax
from avser.models.net import HEADS, EmotionNet
from avser.types import SAMPLE_RATE, STEP_S, STEP_SAMPLES, Batch

Floats = NDArray[np.float32]

#: Rows of an aligned face crop, as shares of its height: eyes lie at .39, the mouth at about .75.
REGIONS: Mapping[str, tuple[float, float]] = {
    "forehead": (0.0, EYES[1] - 0.17),
    "brows and eyes": (EYES[1] - 0.17, EYES[1] + 0.10),
    "nose and cheeks": (EYES[1] + 0.10, 0.64),
    "mouth and chin": (0.64, 1.0),
}
_LEAST_ROWS = 8  # of a map over a spectrogram: its bands are an eighth of the range
_LEAST_SIDE = 6  # of a map over a face
_TONES = 256  # by which the rows of a front end are given their frequencies


@dataclass(frozen=True, eq=False, kw_only=True)
class Explanation:
    """Attributions of the prediction of one clip.

    Attributes:
        emotion: that is explained.
        probability: of it, for the clip.
        head: "fused", "audio" or "video".
        mask: ``[T]``, steps that the head used.
        attention: ``[T]`` weights of the head, summing to 1; None where it has none.
        lost: ``[T]`` probability that is lost without the step; negative where it spoke against
            the emotion.
        spectrogram: ``[M, F]``, what the audio branch is given, NaN in masked frames; planes of
            the front end where that is vectors of a pretrained network; None without sound.
        audio_map: ``[M, F]`` from 0 to 1; None where the branch has no convolution over it.
        row_hz: ``[M]`` frequencies; None where rows are no frequencies.
        hop_s: seconds between frames.
        faces: ``[n, H, W, 3]`` crops; None without faces.
        face_times_s: ``[n]``, middle of each crop's part of its step.
        face_maps: ``[n, H, W]`` from 0 to 1; None where the branch has no convolution over them.
    """

    emotion: str
    probability: float
    head: str
    mask: NDArray[np.bool_]
    attention: Floats | None
    lost: Floats
    spectrogram: Floats | None = None
    audio_map: Floats | None = None
    row_hz: Floats | None = None
    hop_s: float = 0.0
    faces: NDArray[np.uint8] | None = None
    face_times_s: Floats | None = None
    face_maps: Floats | None = None

    @property
    def step(self) -> int:
        """Index of the step without which most probability is lost."""
        return int(self.lost.argmax())

    def bands(self, count: int = 8) -> dict[tuple[float, float], float]:
        """Share of the map in bands of equally many rows; {} where rows are no frequencies."""
        if self.audio_map is None or self.row_hz is None:
            return {}
        profile = self.audio_map.mean(axis=1, dtype=np.float64)
        edges = np.linspace(0, len(profile), min(count, len(profile)) + 1).round().astype(int)
        ends = [*self.row_hz.tolist(), float(self.row_hz[-1])]
        total = max(float(profile.sum()), 1e-12)
        return {
            (round(ends[a], 1), round(ends[b], 1)): float(profile[a:b].sum() / total)
            for a, b in itertools.pairwise(edges)
        }

    def regions(self) -> dict[str, float]:
        """Share of the map in each of `REGIONS`; {} without faces."""
        if self.face_maps is None:
            return {}
        rows = self.face_maps.mean(axis=(0, 2), dtype=np.float64)
        total = max(float(rows.sum()), 1e-12)
        cuts = {n: [round(e * len(rows)) for e in ends] for n, ends in REGIONS.items()}
        return {name: float(rows[a:b].sum() / total) for name, (a, b) in cuts.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object: steps, bands and regions with their shares."""
        attention = [None] * len(self.lost) if self.attention is None else self.attention
        return {
            "emotion": self.emotion,
            "probability": round(self.probability, 6),
            "head": self.head,
            "steps": [
                {
                    "start_s": round(i * STEP_S, 3),
                    "attention": None if weight is None else round(float(weight), 6),
                    "lost": round(float(lost), 6),
                }
                for i, (weight, lost) in enumerate(zip(attention, self.lost, strict=True))
                if self.mask[i]
            ],
            "bands": [
                {"low_hz": low, "high_hz": high, "share": round(share, 6)}
                for (low, high), share in self.bands().items()
            ],
            "regions": {name: round(share, 6) for name, share in self.regions().items()},
        }


def explain_batch(
    net: EmotionNet, batch: Batch, *, emotion: str | None = None, stream: str | None = None
) -> Explanation:
    """Explain the prediction for a batch of one clip.

    Args:
        net: in evaluation mode.
        batch: of one clip.
        emotion: to explain; None is the most probable one.
        stream: "audio" or "video" explains that branch alone; None the head that predicts.

    Raises:
        ConfigError: the net has no such class.
        SignalError: the clip has nothing to judge.
    """
    if emotion is not None and emotion not in net.emotions:
        raise ConfigError(unknown("emotion", emotion, net.emotions))
    maps: dict[str, _Layer] = {}
    inputs: dict[str, tuple[Tensor, Tensor]] = {}
    with ExitStack() as stack:
        # recurrences of cuDNN have no gradient in evaluation mode
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(torch.enable_grad())
        if net.audio is not None:
            maps["audio"] = stack.enter_context(_Layer(net.audio, rows=_LEAST_ROWS))
        if net.video is not None:
            maps["video"] = stack.enter_context(_Layer(net.video, rows=_LEAST_SIDE))
            stack.enter_context(_unmirrored(net.video))
        for name, head in net.heads.items():
            handle = head.register_forward_pre_hook(
                lambda _, given, name=name: inputs.__setitem__(name, given)
            )
            stack.callback(handle.remove)
        outputs = net(batch)
        if stream is not None:
            outputs = {stream: outputs[stream]}
        answer = net.predict(outputs)
        used = int(answer.used[0])
        if used < 0:
            raise SignalError("Bad clip: it has neither a voice nor a face to explain.")
        head_name = HEADS[used]
        chosen = int(answer.probabilities[0].argmax())
        chosen = chosen if emotion is None else net.emotions.index(emotion)
        outputs[head_name].logits[0, chosen].backward()
        net.zero_grad(set_to_none=True)
    streams = ("audio", "video") if head_name == "fused" else (head_name,)
    judged = (head_name,) if head_name in net.heads else streams  # late fusion has no head
    parts = {n: (x.detach(), mask) for n, (x, mask) in inputs.items() if n in judged}
    mask, attention, lost = _steps(net, head_name, parts, chosen)
    return Explanation(
        emotion=net.emotions[chosen],
        probability=float(answer.probabilities[0, chosen].detach()),
        head=head_name,
        mask=mask[0].cpu().numpy(),
        attention=attention,
        lost=lost,
        **(_audio_parts(net, batch, maps["audio"]) if "audio" in streams else {}),
        **(_face_parts(batch, maps["video"]) if "video" in streams else {}),
    )


@contextmanager
def _unmirrored(video: nn.Module) -> Iterator[None]:
    """Embed crops alone, without their mirror images, whose maps lie the other way round."""
    if not isinstance(video, FaceEncoder):
        yield
        return
    before, video.mirror = video.mirror, False
    try:
        yield
    finally:
        video.mirror = before


class _Layer:
    """Finds the layer of a network whose activations are mapped, and keeps them.

    It is the last one in order of execution whose output is ``[n, C, rows, columns]`` with enough
    rows, or the one with the most rows where none has enough.
    """

    def __init__(self, network: nn.Module, *, rows: int) -> None:
        self._network, self._rows = network, rows
        self._stack = ExitStack()
        self._kept: list[Tensor] = []

    def __enter__(self) -> _Layer:
        for module in self._network.modules():
            if not list(module.children()) and not isinstance(module, Frontend):
                handle = module.register_forward_hook(self._keep)
                self._stack.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _keep(self, _module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:  # noqa: ANN401
        if not isinstance(output, Tensor) or output.ndim != 4 or min(output.shape[2:]) < 2:
            return None
        if not output.requires_grad:  # a frozen network
            output.requires_grad_()
        best = self._kept[0].shape[2] if self._kept else 0
        if output.shape[2] >= min(self._rows, best or 1):
            if self._kept and self._kept[0].shape != output.shape:
                self._kept.clear()
            output.retain_grad()
            self._kept = [output]
        return output.clone()  # later layers may work in place

    def map(self) -> Tensor | None:
        """Grad-CAM ``[n, rows, columns]``; None where there was no such layer, or no gradient."""
        if not self._kept or self._kept[0].grad is None:
            return None
        output = self._kept[0].detach()
        weights = self._kept[0].grad.mean(dim=(2, 3), keepdim=True)
        return F.relu((weights * output).sum(dim=1))


@torch.no_grad()
def _steps(
    net: EmotionNet, name: str, parts: Mapping[str, tuple[Tensor, Tensor]], chosen: int
) -> tuple[Tensor, Floats | None, Floats]:
    """Mask ``[1, T]``, attention ``[T]``, and the probability ``[T]`` that is lost without a step.

    Args:
        net: in evaluation mode.
        name: of the output that is explained.
        parts: inputs ``x [1, T, D], mask [1, T]`` of the head that predicts; of both streams'
            heads under late fusion, which takes a step out of both.
        chosen: index of the emotion.
    """
    count = max(mask.shape[1] for _, mask in parts.values())
    device = next(iter(parts.values()))[1].device
    kept = torch.cat([torch.ones(1, count), 1 - torch.eye(count)]).bool().to(device)
    inputs, whole = {}, torch.zeros(1, count, dtype=torch.bool, device=device)
    some = torch.ones(count, dtype=torch.bool, device=device)
    for part, (x, mask) in parts.items():
        masks = mask & kept[:, : mask.shape[1]]
        inputs[part] = x.expand(count + 1, -1, -1), masks
        whole |= F.pad(mask, (0, count - mask.shape[1]))
        some &= masks[1:].any(dim=1)
    logits = net.run_heads(inputs)[name].logits
    shares = (logits / net.temperature(name)).softmax(dim=-1)[:, chosen]
    lost = torch.where(whole[0] & some, shares[0] - shares[1:], 0.0)
    attention, head = None, net.heads[name] if name in net.heads else None
    if isinstance(head, AttentiveHead):
        weights = masked_softmax(head.attention(parts[name][0]).squeeze(-1), parts[name][1])
        attention = weights[0].float().cpu().numpy()
    return whole, attention, lost.float().cpu().numpy()


def _audio_parts(net: EmotionNet, batch: Batch, layer: _Layer) -> dict[str, Any]:
    audio = net.audio
    if audio is None:
        return {}
    with torch.no_grad():
        raw, mask = audio.raw_features(batch["waveform"], batch["lengths"])
        planes = audio.frontend(batch["waveform"])
        pooled = raw.shape[2] != planes.shape[2]  # vectors of a network, whose rows are no bands
        if pooled:
            image = planes[0].mean(dim=0)
            first = torch.arange(image.shape[1], device=image.device) * audio.frontend.hop
            mask = first[None] < batch["lengths"][:, None]
        else:
            image = audio.normaliser(raw, mask, batch["speaker_statistics"])[0].mean(dim=0)
        image = image.masked_fill(~mask[0], torch.nan)
    activations = None if pooled else layer.map()
    grid = None if activations is None else _spread(activations[:1], image.shape)[0] * mask[0]
    return {
        "spectrogram": image.float().cpu().numpy(),
        "audio_map": None if grid is None else _unit(grid),
        "row_hz": row_frequencies(audio.frontend),
        "hop_s": audio.frontend.hop / SAMPLE_RATE,
    }


def _face_parts(batch: Batch, layer: _Layer) -> dict[str, Any]:
    valid = batch["face_mask"][0]
    if not valid.any():
        return {}
    crops = rearrange(batch["faces"][0][valid], "n c h w -> n h w c").cpu().numpy()
    step, slot = (index.cpu().numpy() for index in valid.nonzero(as_tuple=True))
    times = (step + (slot + 0.5) / valid.shape[1]) * STEP_S
    result = layer.map()
    if result is not None:
        result = _spread(result, crops.shape[1:3]) if len(result) == len(crops) else None
    return {
        "faces": crops if crops.shape[-1] == 3 else crops.repeat(3, axis=-1),
        "face_times_s": times.astype(np.float32),
        "face_maps": None if result is None else _unit(result),
    }


def _spread(maps: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """Enlarge ``[n, rows, columns]`` to another size."""
    large = F.interpolate(maps[:, None].float(), tuple(size), mode="bilinear", align_corners=False)
    return large[:, 0]


def _unit(maps: Tensor) -> Floats:
    """Scale to a largest value of 1."""
    scaled: Floats = (maps / maps.amax().clamp(min=1e-12)).cpu().numpy()
    return scaled


@torch.no_grad()
def row_frequencies(frontend: Frontend) -> Floats | None:
    """Frequency of each row of a front end in Hz, measured with tones; None where it has none.

    Rows of cepstra, for instance, answer no single tone: their frequencies do not ascend.
    """
    device = next((t.device for t in [*frontend.parameters(), *frontend.buffers()]), None)
    hz = torch.linspace(20.0, SAMPLE_RATE / 2 - 20.0, _TONES, device=device)
    times = torch.arange(2 * STEP_SAMPLES, device=device) / SAMPLE_RATE
    responses = []
    for part in torch.split(hz, 32):
        planes = frontend(0.1 * torch.sin(2 * torch.pi * part[:, None] * times))
        frames = planes.shape[-1]
        responses.append(planes[..., frames // 4 : -(frames // 4)].float().mean(dim=(1, 3)))
    response = torch.cat(responses)  # [tones, M]
    rows = hz[response.argmax(dim=0)].cpu().numpy().astype(np.float32)
    return rows if len(rows) > 3 and bool((np.diff(rows) >= 0).all()) else None
