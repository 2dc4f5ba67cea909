"""Streams that begin with a released model's weights, and streams that are held still.

A stream is an encoder with its own head. Whoever starts from a model takes over what it was
trained on: its speakers count as seen, and a test part that holds one of them is refused.
"""

from collections.abc import Mapping, Sequence

from torch import nn

from avser import bundle
from avser.bundle import Provenance
from avser.errors import ConfigError, unknown
from avser.net import EmotionNet
from avser.types import Clip

STREAMS = ("audio", "video")


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


def start_from(net: EmotionNet, models: Mapping[str, str]) -> list[Provenance]:
    """Copy a stream's weights from released models; heads too, where the classes are the same.

    Args:
        net: to fill.
        models: stream to name or folder of a model.

    Returns:
        What those models were trained on.

    Raises:
        ConfigError: a stream is unknown, or the model's encoder is of another shape.
        BundleError: a model is missing or damaged.
    """
    found: list[Provenance] = []
    for stream, model in models.items():
        target = encoder_of(net, stream)
        loaded = bundle.load(model)
        try:
            target.load_state_dict(encoder_of(loaded.net, stream).state_dict())
        except RuntimeError as error:
            raise ConfigError(
                f"Bad init.{stream} {model!r}: its encoder has other settings than model.{stream}; "
                "copy them from its config.yaml."
            ) from error
        if loaded.net.emotions == net.emotions:
            head = net.heads[stream]
            try:
                head.load_state_dict(loaded.net.heads[stream].state_dict())
            except RuntimeError:
                pass  # another kind of head: it is trained anew
        found.append(loaded.provenance)
    return found


def refuse_seen(models: Sequence[Provenance], test: Sequence[Clip]) -> None:
    """Refuse a start from a model that has seen speakers who are tested.

    Validation speakers are not looked at: a model of the same fold has chosen its epoch by them.

    Args:
        models: what the models were trained on.
        test: clips of the test part.

    Raises:
        ConfigError: there is such a speaker.
    """
    known = {speaker for p in models for speaker in p.speakers}
    seen = sorted({c.speaker for c in test} & known)
    if seen:
        raise ConfigError(
            f"Bad init: its model was trained on {seen[0]}, who is in the test part ({len(seen)} "
            "speakers in all); start from a model of the same fold, such as "
            "RUN/seed{seed}/fold{fold}."
        )


def hold(net: EmotionNet, stream: str, still: bool) -> None:
    """Hold a stream still, or let it learn.

    A stream that is held still also keeps its batch-norm statistics and has no dropout.
    """
    for module in (encoder_of(net, stream), net.heads[stream]):
        module.requires_grad_(not still)
        module.train(not still)
