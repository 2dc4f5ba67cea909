"""Convolutions in time."""

from avser.models.encoders.conv1d import Conv1dEncoder
from avser.models.frontends.mfcc import Mfcc

AUDIO = {
    "conv1d": lambda: Conv1dEncoder(
        frontend=Mfcc(window=320, hop=320), clip_s=1.0, channels=(6, 8), pools=(4, 2)
    ),
}
