"""Fully connected layers."""

from avser.models.encoders.dense import DenseEncoder
from avser.models.frontends.mfcc import Mfcc

AUDIO = {
    "dense": lambda: DenseEncoder(frontend=Mfcc(hop=512), clip_s=1.0, widths=(12, 8)),
}
