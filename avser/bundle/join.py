"""Late fusion of an audio model and a face model in one bundle, without training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avser.bundle.provenance import Provenance
from avser.bundle.serialization import Bundle, save
from avser.errors import BundleError, ConfigError
from avser.models.factory import build_net
from avser.models.fusion.late import LateFusion
from avser.models.heads import AttentiveHead, Head, LinearHead
from avser.models.net import EmotionNet

Values = NDArray[np.float64]

#: Weights of the face's log probabilities among which validation chooses.
WEIGHTS = tuple(round(0.05 * i, 2) for i in range(0, 31))


def join_bundles(
    voice: Bundle, face: Bundle, folder: str | Path, *, weight: float, name: str
) -> Path:
    """Write a bundle that joins two models by `LateFusion`.

    For a clip without a face, its prediction is exactly that of the audio model; for a face alone,
    that of the face model. An attentive face head, trained on single pictures, is replaced by the
    equivalent linear head (`AttentiveHead.on_single_steps`).

    Args:
        voice: model with an audio encoder.
        face: model with a video encoder, of the same classes in any order.
        folder: of the new bundle.
        weight: exponent of the face's probabilities.
        name: of the new model.

    Raises:
        BundleError: a model lacks its stream, or the classes differ.
    """
    spec = join_spec(voice, face, weight=weight)
    net = build_net(spec, voice.net.emotions)
    _fill(net, voice, face)
    return save(
        net,
        folder,
        spec=spec,
        name=name,
        provenance=join_provenance(voice.provenance, face.provenance),
        half=voice.config["weights"].get("stored") == "float16",
    )


def join_spec(voice: Bundle, face: Bundle, *, weight: float) -> dict[str, Any]:
    """Settings of the slots of the joined net.

    Raises:
        BundleError: see `join_bundles`.
    """
    for bundle, stream in ((voice, "audio"), (face, "video")):
        if getattr(bundle.net, stream) is None:
            raise BundleError(
                f"Bad model {bundle.name}: it has no {stream} encoder; give one that has."
            )
    if set(voice.net.emotions) != set(face.net.emotions):
        odd = sorted(set(voice.net.emotions) ^ set(face.net.emotions))
        raise BundleError(
            f"Bad models {voice.name} and {face.name}: not both have {', '.join(odd)}; train one "
            "with data.merge or data.emotions of the other."
        )
    own = face.config["net"]
    head = own.get("video_head") or own["head"]
    if isinstance(face.net.heads["video"], AttentiveHead):
        kind = f"{LinearHead.__module__}.{LinearHead.__qualname__}"
        head = {"class_path": kind, "init_args": {"dropout": face.net.heads["video"].dropout.p}}
    late = f"{LateFusion.__module__}.{LateFusion.__qualname__}"
    return {
        "audio": voice.config["net"]["audio"],
        "video": own["video"],
        "fusion": {"class_path": late, "init_args": {"weight": weight}},
        "head": head,
        "audio_head": voice.config["net"].get("audio_head") or voice.config["net"]["head"],
    }


@torch.no_grad()
def _fill(net: EmotionNet, voice: Bundle, face: Bundle) -> None:
    """Copy encoders, heads and temperatures."""
    net.audio, net.video = voice.net.audio, face.net.video
    net.heads["audio"] = voice.net.heads["audio"]
    head = face.net.heads["video"]
    if isinstance(head, AttentiveHead):
        head = head.on_single_steps()
    if face.net.emotions != voice.net.emotions:
        head = _in_order(head, [face.net.emotions.index(n) for n in voice.net.emotions])
    net.heads["video"] = head
    for stream, source in (("audio", voice.net), ("video", face.net)):
        net.temperature(stream).copy_(source.temperature(stream))


def _in_order(head: torch.nn.Module, places: Sequence[int]) -> Head:
    if not isinstance(head, LinearHead):
        raise BundleError(
            f"Bad face model: its classes stand in another order, and its {type(head).__name__} "
            "can't be reordered; train it with data.emotions of the voice model."
        )
    head.step.weight.copy_(head.step.weight[list(places)].clone())
    head.step.bias.copy_(head.step.bias[list(places)].clone())
    return head


def join_provenance(voice: Provenance, face: Provenance) -> Provenance:
    """Training data of both models."""
    licences = dict.fromkeys(p.licence for p in (voice, face) if p.licence)
    return Provenance(
        corpora=tuple(dict.fromkeys([*voice.corpora, *face.corpora])),
        speakers=tuple(dict.fromkeys([*voice.speakers, *face.speakers])),
        sexes=voice.sexes,
        languages=tuple(dict.fromkeys([*voice.languages, *face.languages])),
        digests=tuple(dict.fromkeys([*voice.digests, *face.digests])),
        label_target=voice.label_target,
        licence="; ".join(licences),
        split=voice.split,
        split_hash=voice.split_hash,
        merge={**face.merge, **voice.merge},
        seed=voice.seed,
        epochs=voice.epochs,
        commit=voice.commit,
    )


def choose_weight(
    voice: Values, face: Values, labels: NDArray[np.int64]
) -> tuple[float, Mapping[float, float]]:
    """Choose the weight with the least negative log-likelihood of the product, over pairs.

    The likelihood also penalises overconfidence, which UAR does not.

    Args:
        voice: ``[n, K]`` calibrated probabilities.
        face: ``[n, K]`` calibrated probabilities.
        labels: ``[n]`` of both.

    Returns:
        The weight, and the negative log-likelihood at each of `WEIGHTS`.

    Raises:
        ConfigError: there is no pair.
    """
    if not len(labels):
        raise ConfigError("Bad pairs: no label is in both validation parts; give --weight.")
    logs = np.log(np.maximum(voice, 1e-8)), np.log(np.maximum(face, 1e-8))
    losses = {}
    for weight in WEIGHTS:
        joint = logs[0] + weight * logs[1]
        joint -= np.log(np.exp(joint).sum(axis=1, keepdims=True))
        losses[weight] = float(-joint[np.arange(len(labels)), labels].mean())
    return min(losses, key=lambda w: (round(losses[w], 6), w)), losses


def pair_by_label(
    voice: NDArray[np.int64], face: NDArray[np.int64], *, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each voice clip with a random face of the same label; indices of both, ``[n]`` each.

    Both are of different people, and the faces are photographs: figures on pairs are marked PAIRED.
    """
    random = np.random.default_rng(seed)
    rows, partners = [], []
    for row, label in enumerate(voice.tolist()):
        same = np.flatnonzero(face == label)
        if len(same):
            rows.append(row)
            partners.append(int(random.choice(same)))
    return np.array(rows, np.int64), np.array(partners, np.int64)
