"""Statistics of frames, without weights."""

from avser.models.encoders.pooled import PooledEncoder
from avser.models.frontends.chunk_descriptors import ChunkDescriptors
from avser.models.frontends.descriptors import LowLevelDescriptors
from avser.models.frontends.logmel import LogMel
from avser.models.frontends.mfcc import Mfcc

AUDIO = {
    "pooled": lambda: PooledEncoder(frontend=Mfcc(window=320, hop=320)),
    "pooled steps": lambda: PooledEncoder(
        frontend=LowLevelDescriptors(), statistics=("mean", "deviation"), span="step"
    ),
    "chunk descriptors": lambda: PooledEncoder(frontend=ChunkDescriptors(), span="step"),
}
STREAMING = {
    "pooled": lambda: PooledEncoder(
        frontend=LogMel(causal=True), trim_db=None, span="step", statistics=("mean", "deviation")
    ),
}
