"""Each encoder of sound in tiny, in some of its settings, for the contract tests."""

from collections.abc import Callable

from avser.models.encoders.base import AudioEncoder
from avser.models.encoders.conv1d import Conv1dEncoder
from avser.models.encoders.crnn import CrnnEncoder
from avser.models.encoders.dense import DenseEncoder
from avser.models.encoders.lstm import LstmEncoder
from avser.models.encoders.pooled import PooledEncoder
from avser.models.encoders.ssl import SslEncoder
from avser.models.encoders.step_cnn import StepCnnEncoder
from avser.models.encoders.timm_audio import TimmAudioEncoder
from avser.models.frontends.chunk_descriptors import ChunkDescriptors
from avser.models.frontends.cleaned import Cleaned
from avser.models.frontends.deltas import Deltas
from avser.models.frontends.descriptors import LowLevelDescriptors
from avser.models.frontends.logmel import LogMel
from avser.models.frontends.mfcc import Mfcc
from avser.models.frontends.two_channel import TwoChannelSpectrogram
from avser.testing.nets import tiny_audio_encoder

ENCODERS: dict[str, Callable[[], AudioEncoder]] = {
    "crnn": lambda: tiny_audio_encoder(),
    "crnn causal": lambda: tiny_audio_encoder(causal=True),
    "crnn gated": lambda: CrnnEncoder(
        frontend=LogMel(hop=512, n_fft=512, causal=True),
        normalise="running",
        trim_db=None,
        gate_dbfs=-60.0,
        hidden=8,
        channels=(4, 4, 4, 4),
        causal=True,
    ),
    "crnn gru": lambda: CrnnEncoder(frontend=LogMel(hop=512, n_fft=512), cell="gru", hidden=8),
    "crnn group norm": lambda: CrnnEncoder(
        frontend=LogMel(hop=512, n_fft=512), hidden=8, channels=(12, 4, 4, 4), norm="group"
    ),
    "crnn two-channel": lambda: CrnnEncoder(
        frontend=TwoChannelSpectrogram(), hidden=8, channels=(4, 4, 4, 4)
    ),
    "crnn running": lambda: CrnnEncoder(
        frontend=LogMel(hop=512, n_fft=512), normalise="running", hidden=8, channels=(4, 4, 4, 4)
    ),
    "lstm": lambda: LstmEncoder(
        frontend=Deltas(Mfcc(hop=512, preemphasis=0.97), order=2), hidden=8, width=12
    ),
    "lstm 20 ms, clip": lambda: LstmEncoder(
        frontend=Deltas(Mfcc(window=320, hop=320, preemphasis=0.97)),
        normalise="utterance",
        trim_db=None,
        hidden=8,
        bidirectional=False,
        span="clip",
        pool="last",
    ),
    "lstm 20 ms, last": lambda: LstmEncoder(
        frontend=Mfcc(window=320, hop=320), normalise="running", hidden=8, layers=1, pool="last"
    ),
    "lstm descriptors": lambda: LstmEncoder(frontend=LowLevelDescriptors(), hidden=8),
    "pooled": lambda: PooledEncoder(frontend=Mfcc(window=320, hop=320)),
    "pooled steps": lambda: PooledEncoder(
        frontend=LowLevelDescriptors(), statistics=("mean", "deviation"), span="step"
    ),
    "conv1d": lambda: Conv1dEncoder(
        frontend=Mfcc(window=320, hop=320), clip_s=1.0, channels=(6, 8), pools=(4, 2)
    ),
    "dense": lambda: DenseEncoder(frontend=Mfcc(hop=512), clip_s=1.0, widths=(12, 8)),
    "lstm levelled": lambda: LstmEncoder(
        frontend=Cleaned(Mfcc(window=320, hop=320)), hidden=8, span="clip", pool="last"
    ),
    "ssl": lambda: SslEncoder(kind="wavlm", size="tiny", tune=True),
    "ssl clip": lambda: SslEncoder(kind="wav2vec2", size="tiny", tune=True, span="clip"),
    "step cnn": lambda: StepCnnEncoder(frontend=TwoChannelSpectrogram(), channels=(8,), width=6),
    "step cnn small kernels": lambda: StepCnnEncoder(
        frontend=LogMel(bins=32, hop=512),
        size=(16, 16),
        channels=(4, 6),
        kernels=((5, 5), (3, 3)),
        pools=((2, 2), (2, 2)),
        leak=0.1,
        dropout=0.2,
    ),
    "step cnn of centred images": lambda: StepCnnEncoder(
        frontend=TwoChannelSpectrogram(),
        normalise="none",
        trim_db=None,
        channels=(4,),
        width=6,
        pixel_mean=True,
        anomaly=4.0,
    ),
    "raw steps": lambda: StepCnnEncoder(
        frontend=TwoChannelSpectrogram(), channels=(), kernels=(), pools=(), width=None, size=(8, 8)
    ),
    "chunk descriptors": lambda: PooledEncoder(frontend=ChunkDescriptors(), span="step"),
    # not a ResNet: timm begins those with residual branches at zero, so their gradients are too
    "timm": lambda: TimmAudioEncoder(
        frontend=TwoChannelSpectrogram(), backbone="test_efficientnet", clip_s=1.5, size=(64, 64)
    ),
    "timm vit": lambda: TimmAudioEncoder(
        frontend=LogMel(bins=32, hop=512), backbone="test_vit", clip_s=1.0, size=(32, 48)
    ),
}

#: Of those that stream: all causal, each kind of state.
STREAMS: dict[str, Callable[[], AudioEncoder]] = {
    "crnn": lambda: tiny_audio_encoder(causal=True),
    "crnn gated": lambda: CrnnEncoder(
        frontend=LogMel(hop=512, n_fft=512, causal=True),
        normalise="running",
        trim_db=None,
        gate_dbfs=-60.0,
        channels=(4, 4, 4, 4),
        hidden=8,
        causal=True,
    ),
    "crnn gru, two-channel": lambda: CrnnEncoder(
        frontend=TwoChannelSpectrogram(causal=True),
        normalise="none",
        trim_db=None,
        channels=(4, 4, 4, 4),
        hidden=8,
        cell="gru",
        causal=True,
    ),
    "lstm": lambda: LstmEncoder(
        frontend=Mfcc(preemphasis=0.97, causal=True),
        normalise="running",
        trim_db=None,
        width=6,
        hidden=8,
        bidirectional=False,
    ),
    "lstm last": lambda: LstmEncoder(
        frontend=LowLevelDescriptors(causal=True),
        normalise="running",
        trim_db=None,
        hidden=8,
        layers=1,
        bidirectional=False,
        pool="last",
    ),
    "step cnn": lambda: StepCnnEncoder(
        frontend=TwoChannelSpectrogram(), trim_db=None, channels=(8,), width=6
    ),
    "pooled": lambda: PooledEncoder(
        frontend=LogMel(causal=True), trim_db=None, span="step", statistics=("mean", "deviation")
    ),
}
