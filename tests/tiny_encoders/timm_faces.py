"""Image networks over face crops."""

from avser.models.encoders.timm_faces import TimmFacesEncoder

FACES = {
    "timm": lambda: TimmFacesEncoder(backbone="test_efficientnet", size=32),
}
