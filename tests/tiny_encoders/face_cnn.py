"""The small face network."""

from avser.models.encoders.face_cnn import FaceCnnEncoder

FACES = {
    "cnn": lambda: FaceCnnEncoder(channels=(16, 32), blocks=(1, 1)),
    "cnn mirrored": lambda: FaceCnnEncoder(channels=(32,), blocks=(1,), mirror=True),
    "cnn of movement": lambda: FaceCnnEncoder(
        channels=(16,), blocks=(1,), statistics=("mean", "deviation", "centred")
    ),
    "cnn of lips": lambda: FaceCnnEncoder(channels=(16,), blocks=(1,), statistics=("mean", "lips")),
}
