"""Exported nets that judge faces, and the runtime that classifies videos without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Bundle
from avser.cli import main
from avser.export.folder import save_video_folder
from avser.export.onnx_file import MOST_APART
from avser.export.video_file import VideoGraph, video_differences
from avser.export.video_runtime import DETECTOR_FOLDER, OnnxVideoClassifier
from avser.inference.predictor import Predictor
from avser.media.clip import EMBEDDINGS_CENTRED_RUNNING
from avser.media.faces import MtcnnDetector
from avser.media.faces.onnx_mtcnn import OnnxMtcnnDetector
from avser.models.encoders.face_cnn import FaceCnnEncoder
from avser.models.fusion.joint import JointCrossAttentionFusion
from avser.models.heads import AttentiveHead, LstmHead
from avser.models.net import EmotionNet
from avser.testing.faces import Person, frames, head, read_picture
from avser.testing.nets import tiny_audio_encoder
from avser.types import Prediction

pytestmark = pytest.mark.long
EXAMPLES = Path(__file__).parents[2] / "examples"
LENGTHS = (0.3, 3.3, 20.0)
CLIP_APART, STEP_APART = 1e-3, 5e-3  # a crop's rounding moves a step more than a whole clip
INT8_APART = 0.1

#: Classifies with the folder in its first argument, where torch and avser can't be imported.
RUN = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "facenet_pytorch", "avser"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
from avser_runtime.export.video_runtime import OnnxVideoClassifier
print(json.dumps(OnnxVideoClassifier(sys.argv[1])(sys.argv[2]).to_dict()))
"""


@pytest.fixture(scope="module")
def graph() -> VideoGraph:
    return VideoGraph(bundle.load("av.multi"))


@pytest.fixture(scope="module")
def folder(graph: VideoGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_video_folder(graph, tmp_path_factory.mktemp("av") / "float").parent


@pytest.fixture(scope="module")
def expected() -> dict[str, Prediction]:
    predictor = Predictor.from_pretrained("av.multi")
    kinds = ("auto", "audio", "video")
    return {kind: predictor(EXAMPLES / "sample.mp4", modality=kind) for kind in kinds}


def apart(a: Prediction, b: Prediction) -> float:
    assert a.probabilities is not None and b.probabilities is not None
    return max(abs(a.probabilities[n] - b.probabilities[n]) for n in a.probabilities)


def test_the_released_model_at_three_lengths(graph: VideoGraph, folder: Path) -> None:
    result = video_differences(graph.bundle.net, folder / "model.onnx", seconds=LENGTHS)
    assert max(max(d.clip, d.step) for d in result) <= MOST_APART


def test_a_video_is_classified_where_there_is_no_torch(
    folder: Path, expected: dict[str, Prediction]
) -> None:
    words = [sys.executable, "-c", RUN, str(folder), str(EXAMPLES / "sample.mp4")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    got, wanted = json.loads(done.stdout), expected["auto"].to_dict()
    for key in ("label", "modalities", "reason", "duration_s", "model"):
        assert got[key] == wanted[key], key
    assert got["probabilities"] == pytest.approx(wanted["probabilities"], abs=CLIP_APART)
    for mine, other in zip(got["timeline"], wanted["timeline"], strict=True):
        assert mine["start_s"] == other["start_s"]
        assert mine["probabilities"] == pytest.approx(other["probabilities"], abs=STEP_APART)


def test_one_stream_can_be_asked_for(folder: Path, expected: dict[str, Prediction]) -> None:
    classify = OnnxVideoClassifier(folder)
    for kind in ("audio", "video"):
        got = classify(EXAMPLES / "sample.mp4", modality=kind)
        assert got.modalities == expected[kind].modalities == (kind,)
        assert apart(got, expected[kind]) <= CLIP_APART
    picture = classify(EXAMPLES / "face.jpg")
    assert picture.modalities == ("video",) and picture.label == "happy"


def test_weights_of_8_bits_keep_the_label(
    graph: VideoGraph, tmp_path: Path, expected: dict[str, Prediction]
) -> None:
    path = save_video_folder(graph, tmp_path / "int8", int8=True)
    assert path.stat().st_size < 11_000_000
    got = OnnxVideoClassifier(path.parent)(EXAMPLES / "sample.mp4")
    assert got.label == expected["auto"].label
    assert apart(got, expected["auto"]) <= INT8_APART


def test_joint_cross_attention_at_three_lengths(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = EmotionNet(
        audio=tiny_audio_encoder(),
        video=FaceCnnEncoder(channels=(8, 16), blocks=(1, 1)),
        fusion=JointCrossAttentionFusion(hidden=8, width=16),
        head=AttentiveHead(hidden=8),
        emotions=("happy", "sad", "angry"),
    ).eval()
    made = Bundle(name="tiny", folder=Path(), net=net, config={})
    path = VideoGraph(made).save(tmp_path / "model.onnx")
    result = video_differences(net, path, seconds=(0.3, 3.3, 9.0), clips=3)
    assert max(max(d.clip, d.step) for d in result) <= MOST_APART


def test_movement_and_an_lstm_at_three_lengths(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = EmotionNet(
        video=FaceCnnEncoder(
            channels=(8, 16), blocks=(1, 1), statistics=("mean", "deviation", "centred")
        ),
        head=LstmHead(hidden=8),
        emotions=("happy", "sad", "angry"),
    ).eval()
    path = VideoGraph(Bundle(name="tiny", folder=Path(), net=net, config={})).save(
        tmp_path / "model.onnx"
    )
    result = video_differences(net, path, seconds=(0.3, 3.3, 9.0), clips=3)
    assert max(max(d.clip, d.step) for d in result) <= MOST_APART
    classify = OnnxVideoClassifier(tmp_path, detector=MtcnnDetector())
    assert EMBEDDINGS_CENTRED_RUNNING in str(classify(EXAMPLES / "face.jpg").reason)


def test_the_command_writes_the_face_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "face.onnx"
    words = ["export", "--model", "face_cnn.fer2013", "--int8", "--out", str(path)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "face_cnn.fer2013: neutral, happy" in printed and path.stat().st_size < 1_400_000


def test_the_detector_without_torch_finds_the_same_faces(folder: Path) -> None:
    detector = MtcnnDetector()
    other = OnnxMtcnnDetector(folder / DETECTOR_FOLDER)
    face = read_picture(EXAMPLES / "face.jpg")
    people = [
        Person(head(face, height=90), [(0.3, 0.5), (0.02, 0.4)]),
        Person(head(face, height=70, mirrored=True), [(0.7, 0.5), None]),
    ]
    counts = []
    for frame in frames(people, times_s=iter([0.0, 0.3]), count=2, size=(180, 320)):
        expected, got = detector(frame.image), other(frame.image)
        counts.append(len(expected))
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_allclose(b.box, a.box, atol=0.01)
            np.testing.assert_allclose(b.landmarks, a.landmarks, atol=0.01)
            assert b.score == pytest.approx(a.score, abs=1e-4)
    assert counts[0] == 2
    assert other(np.zeros((8, 8, 3), np.uint8)) == other(np.zeros((90, 90, 3), np.uint8)) == []
