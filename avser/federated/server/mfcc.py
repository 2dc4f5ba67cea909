"""Answers for devices that send MFCC instead of sound, as EmoNet's do."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from avser.errors import SignalError
from avser.models.frontends.mfcc import Mfcc
from avser.models.net import EmotionNet
from avser.types import SAMPLE_RATE

MOST_S = 60.0


def front_of(net: EmotionNet) -> Mfcc:
    """The MFCC front end of a net.

    Raises:
        SignalError: it hears something else.
    """
    frontend = None if net.audio is None else net.audio.frontend
    if not isinstance(frontend, Mfcc):
        name = type(frontend).__name__ if frontend is not None else "no sound"
        raise SignalError(f"Bad input mfcc: the served model's front end is {name}; send audio.")
    return frontend


@torch.inference_mode()
def answer_cepstra(net: EmotionNet, rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Label and probabilities for MFCC frames.

    Args:
        net: whose front end is `Mfcc`.
        rows: ``[F, M]``, a row a hop of the front end, in its units.

    Raises:
        SignalError: the net hears something else, or the rows are not its front end's.
    """
    front, audio = front_of(net), net.audio
    assert audio is not None
    try:
        values = np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise SignalError("Bad input mfcc: expected rows of numbers, one a frame.") from error
    most = int(MOST_S * SAMPLE_RATE / front.hop)
    good = values.ndim == 2 and values.shape[1] == front.bins and 1 <= len(values) <= most
    if not good or not bool(np.isfinite(values).all()):
        raise SignalError(
            f"Bad input mfcc of shape {values.shape}: expected 1 to {most} frames of {front.bins} "
            f"finite coefficients, one every {1000 * front.hop / SAMPLE_RATE:g} ms."
        )
    each = front.frames_per_step
    frames = -(-len(values) // each) * each
    features = torch.zeros(1, 1, front.bins, frames)
    features[0, 0, :, : len(values)] = torch.from_numpy(values.T)
    mask = torch.arange(frames)[None] < len(values)
    x, valid = audio.encode(audio.normaliser(features, mask), mask)
    logits, _ = net.heads["audio"](x, valid)
    shares = (logits / net.temperature("audio")).softmax(dim=-1)[0].tolist()
    found = dict(zip(net.emotions, (round(s, 6) for s in shares), strict=True))
    return {"label": max(found, key=found.__getitem__), "probabilities": found}
