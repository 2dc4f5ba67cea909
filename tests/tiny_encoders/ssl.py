"""Self-supervised encoders."""

from avser.models.encoders.ssl import SslEncoder

AUDIO = {
    "ssl": lambda: SslEncoder(kind="wavlm", size="tiny", tune=True),
    "ssl clip": lambda: SslEncoder(kind="wav2vec2", size="tiny", tune=True, span="clip"),
}
