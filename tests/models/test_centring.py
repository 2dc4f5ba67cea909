"""Running centring of a face's scores."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from avser.errors import ConfigError
from avser.inference.predictor import Predictor
from avser.media.clip import CENTRED_RUNNING
from avser.media.faces import Detection
from avser.models.centring import WARM_UP_STEPS, RunningCentre
from avser.models.encoders.face_cnn import FaceCnnEncoder
from avser.models.heads import AttentiveHead
from avser.models.net import EmotionNet
from avser.models.transforms import Transforms
from avser.testing.nets import tiny_net
from avser.types import audio_batch


def net() -> EmotionNet:
    torch.manual_seed(0)
    video = FaceCnnEncoder(channels=(8, 16), blocks=(1, 1))
    return EmotionNet(video=video, head=AttentiveHead(hidden=4), emotions=("a", "b", "c")).eval()


def test_a_step_has_the_mean_so_far_shrunk_by_the_warm_up() -> None:
    scores = torch.tensor([[[4.0, 0.0], [9.0, 9.0], [2.0, 6.0]]])
    mask = torch.tensor([[True, False, True]])  # the second step shows no face
    means = RunningCentre(warm_up=2)(scores, mask)
    expected = [[4 / 3, 0.0], [4 / 3, 0.0], [6 / 4, 6 / 4]]
    torch.testing.assert_close(means[0], torch.tensor(expected))
    assert WARM_UP_STEPS == 39  # 20 s, as the sentence of every prediction says


def test_windows_of_a_long_clip_go_on_from_one_another() -> None:
    torch.manual_seed(1)
    scores, mask = torch.randn(1, 150, 3), torch.rand(1, 150) < 0.8
    whole = RunningCentre()(scores, mask)
    centre = RunningCentre()
    windows: list[Tensor] = []
    for start, stop in ((0, 120), (60, 150)):
        with centre.followed_by(60) as recorder:
            windows.append(recorder(scores[:, start:stop], mask[:, start:stop]))
    torch.testing.assert_close(windows[0], whole[:, :120])
    torch.testing.assert_close(windows[1], whole[:, 60:])


def test_a_net_takes_the_means_out_of_steps_and_clips() -> None:
    model = net()
    model.temperature("video").fill_(1.7)
    batch = audio_batch(torch.zeros(1, 0), torch.zeros(1, dtype=torch.int64))
    batch["faces"] = torch.randint(0, 256, (1, 5, 2, 3, 48, 48), dtype=torch.uint8)
    batch["face_mask"] = torch.ones(1, 5, 2, dtype=torch.bool)
    with torch.inference_mode():
        plain = model.predict(model(batch))
        streams = model(batch, transforms=Transforms(face_centre=RunningCentre(warm_up=0)))
        centred = model.predict(streams)
    scores = plain.step_probabilities.log()
    means = scores.cumsum(dim=1) / torch.arange(1, 6)[None, :, None]
    torch.testing.assert_close(centred.step_probabilities, (scores - means).softmax(dim=-1))
    of_clip = (plain.probabilities.log() - means.mean(dim=1)).softmax(dim=-1)
    torch.testing.assert_close(centred.probabilities, of_clip)


class OneFace:
    """A detector of one face in every picture."""

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        points = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
        return [Detection((40.0, 30.0, 60.0, 60.0), 0.99, points * 60 + (40, 30))]


def test_predictions_are_marked_and_short_clips_hardly_change() -> None:
    predictor = Predictor(net(), detector=OneFace())
    frames = np.random.default_rng(0).integers(0, 256, (40, 120, 160, 3), dtype=np.uint8)
    plain = predictor({"frames": frames, "fps": 10})
    predictor.centre_faces()
    centred = predictor({"frames": frames, "fps": 10})
    assert CENTRED_RUNNING in str(centred.reason) and CENTRED_RUNNING not in str(plain.reason)
    assert centred.probabilities != plain.probabilities
    assert centred.probabilities == pytest.approx(plain.probabilities, abs=0.05)
    predictor.centre_faces(running=False)
    assert predictor({"frames": frames, "fps": 10}) == plain


def test_a_model_without_faces_is_refused() -> None:
    with pytest.raises(ConfigError, match="judges no faces; leave it out"):
        Predictor(tiny_net()).centre_faces()
