"""Convolutions over the spectrogram of one step."""

from avser.models.encoders.step_cnn import StepCnnEncoder
from avser.models.frontends.logmel import LogMel
from avser.models.frontends.two_channel import TwoChannelSpectrogram

AUDIO = {
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
}
STREAMING = {
    "step cnn": lambda: StepCnnEncoder(
        frontend=TwoChannelSpectrogram(), trim_db=None, channels=(8,), width=6
    ),
}
