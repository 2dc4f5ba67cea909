"""CRNN."""

from avser.models.encoders.crnn import CrnnEncoder
from avser.models.frontends.logmel import LogMel
from avser.models.frontends.two_channel import TwoChannelSpectrogram
from avser.testing.nets import tiny_audio_encoder


def gated() -> CrnnEncoder:
    """Causal, with a running norm and a gate in the place of trimming."""
    return CrnnEncoder(
        frontend=LogMel(hop=512, n_fft=512, causal=True),
        normalise="running",
        trim_db=None,
        gate_dbfs=-60.0,
        channels=(4, 4, 4, 4),
        hidden=8,
        causal=True,
    )


AUDIO = {
    "crnn": lambda: tiny_audio_encoder(),
    "crnn causal": lambda: tiny_audio_encoder(causal=True),
    "crnn gated": gated,
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
}
STREAMING = {
    "crnn": lambda: tiny_audio_encoder(causal=True),
    "crnn gated": gated,
    "crnn gru, two-channel": lambda: CrnnEncoder(
        frontend=TwoChannelSpectrogram(causal=True),
        normalise="none",
        trim_db=None,
        channels=(4, 4, 4, 4),
        hidden=8,
        cell="gru",
        causal=True,
    ),
}
