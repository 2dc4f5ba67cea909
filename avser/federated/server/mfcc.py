"""Predictions from MFCC frames, for devices that send features instead of audio."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from avser.errors import SignalError
from avser.models.frontends.mfcc import Mfcc
from avser.models.net import EmotionNet
from avser.types import SAMPLE_RATE

MAX_DURATION_S = 60.0


def mfcc_frontend(net: EmotionNet) -> Mfcc:
    """Return the MFCC front end of a net.

    Raises:
        SignalError: its front end is another one.
    """
    frontend = None if net.audio is None else net.audio.frontend
    if not isinstance(frontend, Mfcc):
        name = type(frontend).__name__ if frontend is not None else "none"
        raise SignalError(f"Bad input mfcc: the served model's front end is {name}; send audio.")
    return frontend


@torch.inference_mode()
def predict_mfcc(net: EmotionNet, rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Predict label and probabilities from MFCC frames.

    Args:
        net: with an `Mfcc` front end.
        rows: ``[F, M]``, a row a hop of the front end, in its units.

    Raises:
        SignalError: the net has another front end, or the rows have another shape.
    """
    front, audio = mfcc_frontend(net), net.audio
    assert audio is not None
    try:
        values = np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise SignalError("Bad input mfcc: expected rows of numbers, one a frame.") from error
    max_frames = int(MAX_DURATION_S * SAMPLE_RATE / front.hop)
    valid_shape = (
        values.ndim == 2 and values.shape[1] == front.bins and 1 <= len(values) <= max_frames
    )
    if not valid_shape or not bool(np.isfinite(values).all()):
        raise SignalError(
            f"Bad input mfcc of shape {values.shape}: expected 1 to {max_frames} frames of "
            f"{front.bins} finite coefficients, one every {1000 * front.hop / SAMPLE_RATE:g} ms."
        )
    each = front.frames_per_step
    frames = -(-len(values) // each) * each
    features = torch.zeros(1, 1, front.bins, frames)
    features[0, 0, :, : len(values)] = torch.from_numpy(values.T)
    mask = torch.arange(frames)[None] < len(values)
    x, valid = audio.encode(audio.normaliser(features, mask), mask)
    logits, _ = net.heads["audio"](x, valid)
    shares = (logits / net.temperature("audio")).softmax(dim=-1)[0].tolist()
    probabilities = dict(zip(net.emotions, (round(s, 6) for s in shares), strict=True))
    label = max(probabilities, key=probabilities.__getitem__)
    return {"label": label, "probabilities": probabilities}
