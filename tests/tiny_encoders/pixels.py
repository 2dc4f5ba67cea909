"""Face crops as plain pixels."""

from avser.models.encoders.pixels import PixelEncoder

FACES = {
    "pixels": lambda: PixelEncoder(size=8),
    "pixels in colour": lambda: PixelEncoder(size=8, colour=True),
}
