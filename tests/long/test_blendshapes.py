"""Blendshapes by the real landmarker."""

import os
from pathlib import Path

import numpy as np
import pytest

from avser.media.blendshapes import ACTION_UNITS, MediaPipeLandmarker, blendshapes_of

pytestmark = pytest.mark.long
SAMPLE = Path(__file__).parents[2] / "examples" / "sample.mp4"
VARIABLE = "AVSER_FACE_LANDMARKER"  # names the model's file, which is no part of any package
USUAL = Path(__file__).resolve().parents[3] / "shared/models/face_landmarker/face_landmarker.task"


def test_the_sample_smiles() -> None:
    pytest.importorskip("mediapipe")
    model = Path(os.environ.get(VARIABLE) or USUAL)
    if not model.is_file():
        pytest.skip(f"{model} is missing; name MediaPipe's model file in {VARIABLE}")
    landmarker = MediaPipeLandmarker(model)
    features = blendshapes_of(SAMPLE, landmarker)
    landmarker.close()
    names = list(landmarker.names)
    assert len(names) == 52 and {n for unit in ACTION_UNITS.values() for n in unit} <= {*names}
    assert features.values.shape == (10, 52)
    mean = dict(zip(names, features.values.mean(axis=0), strict=True))
    assert mean["mouthSmileLeft"] > 0.3 and mean["mouthFrownLeft"] < 0.1
    assert np.isfinite(features.values).all()
