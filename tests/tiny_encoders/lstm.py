"""LSTM over frames."""

from avser.models.encoders.lstm import LstmEncoder
from avser.models.frontends.cleaned import Cleaned
from avser.models.frontends.deltas import Deltas
from avser.models.frontends.descriptors import LowLevelDescriptors
from avser.models.frontends.mfcc import Mfcc

AUDIO = {
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
    "lstm levelled": lambda: LstmEncoder(
        frontend=Cleaned(Mfcc(window=320, hop=320)), hidden=8, span="clip", pool="last"
    ),
}
STREAMING = {
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
}
