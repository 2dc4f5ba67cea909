"""Whisper's encoder, trained whole and with a weighted sum of its layers."""

from avser.models.encoders.whisper import WhisperEncoder

AUDIO = {
    "whisper": lambda: WhisperEncoder(size="mini", layers=1, join=(0, 1), tune="all"),
    "whisper weighted": lambda: WhisperEncoder(
        size="mini", join="weighted", tune="all", normalise="speaker"
    ),
}
