"""A file gives in prediction what it gives where it is trained and evaluated on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avser.data.audio_cache import prepare
from avser.data.dataset import ClipDataset, collate
from avser.inference.predictor import Predictor
from avser.testing.media import face_frames, voice, write_video, write_wav
from avser.testing.nets import tiny_net
from avser.types import Clip


@pytest.mark.parametrize(("kind", "gain"), [("wav", 1.0), ("wav", 0.003), ("mp4", 1.0)])
def test_prepared_and_predicted_samples_are_the_same(
    tmp_path: Path, kind: str, gain: float
) -> None:
    """Rounding to 16 bits once changed a quiet clip's probabilities by over .01."""
    sound = gain * voice("happy", seconds=1.3)
    path = tmp_path / f"a.{kind}"
    if kind == "wav":
        write_wav(path, voice("happy", seconds=1.3, sample_rate=44_100) * gain, sample_rate=44_100)
    else:
        write_video(path, face_frames("happy", count=13), samples=sound)
    clip = Clip(path=path, clip_id="a", emotion=None, speaker="", corpus="x")
    waves = prepare([clip], folder=tmp_path / "cache").waves
    batch = collate([ClipDataset([clip], waves=waves, index=[0], labels=[0])[0]])
    torch.manual_seed(3)
    net = tiny_net().eval()
    with torch.inference_mode():
        evaluated = net.predict(net(batch)).probabilities[0].numpy()
    predicted = np.array(list(Predictor(net)(path).probabilities.values()))
    assert np.abs(predicted - evaluated).max() < 1e-5
