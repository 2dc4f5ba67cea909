"""Audio-visual models joined of a voice model and a face model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avser.bundle import serialization as bundle
from avser.bundle.join import choose_weight, join_bundles, pair_by_label
from avser.cli import main
from avser.errors import BundleError, ConfigError
from avser.evaluation.predictions import Predictions
from avser.models.encoders.face_cnn import FaceCnnEncoder
from avser.models.fusion.late import LateFusion
from avser.models.heads import AttentiveHead, LinearHead
from avser.models.net import EmotionNet
from avser.testing.media import voice
from avser.testing.nets import tiny_bundle
from avser.types import Batch, audio_batch

EMOTIONS = ("happy", "sad", "angry")
FACE = {
    "video": {
        "class_path": "avser.models.encoders.face_cnn.FaceCnnEncoder",
        "init_args": {"channels": [8, 8], "blocks": [1, 1]},
    },
    "head": {"class_path": "avser.models.heads.AttentiveHead", "init_args": {}},
}


def face_bundle(folder: Path, emotions: tuple[str, ...] = EMOTIONS) -> Path:
    torch.manual_seed(1)
    encoder = FaceCnnEncoder(channels=(8, 8), blocks=(1, 1))
    net = EmotionNet(video=encoder, head=AttentiveHead(), emotions=emotions).eval()
    net.temperature("video").fill_(0.7)
    trained = bundle.Provenance(corpora=["fer2013"], licence="research")
    return bundle.save(net, folder, spec=FACE, name="face", provenance=trained)


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    torch.manual_seed(0)
    trained = bundle.Provenance(corpora=["ravdess"], speakers=["ravdess/01"], licence="CC BY")
    return tiny_bundle(tmp_path / "voice", EMOTIONS, provenance=trained), face_bundle(
        tmp_path / "face"
    )


def clips(*, sound: bool = True, faces: bool = True, steps: int = 3) -> Batch:
    samples = torch.from_numpy(voice("happy", seconds=steps * 0.512))[None]
    batch = audio_batch(samples * sound, torch.tensor([samples.shape[1]]))
    if faces:
        random = torch.Generator().manual_seed(3)
        shape = (1, steps, 2, 3, 48, 48)
        batch["faces"] = torch.randint(0, 255, shape, dtype=torch.uint8, generator=random)
        batch["face_mask"] = torch.ones(1, steps, 2, dtype=torch.bool)
    return batch


@torch.inference_mode()
def answers(net: EmotionNet, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, int]:
    answer = net.predict(net(batch))
    return answer.probabilities, answer.step_probabilities, int(answer.used[0])


def test_without_a_face_it_is_the_voice_model_and_without_sound_the_face_model(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    of_voice, of_face = map(bundle.load, models)
    joined = bundle.load(join_bundles(of_voice, of_face, tmp_path / "av", weight=0.5, name="av"))
    batch = clips(faces=False)
    assert torch.equal(answers(joined.net, batch)[0], answers(of_voice.net, batch)[0])
    assert torch.equal(answers(joined.net, batch)[1], answers(of_voice.net, batch)[1])
    one = clips(sound=False, steps=1)  # on a picture the face head is the trained one
    assert torch.allclose(answers(joined.net, one)[0], answers(of_face.net, one)[0], atol=1e-5)
    assert answers(joined.net, one)[2] == 2
    several = clips(sound=False)  # of a video the clip is the mean of its steps' logits
    streams = joined.net(several)
    mean = streams["video"].step_logits.mean(dim=1)
    assert torch.allclose(streams["video"].logits, mean, atol=1e-5)


def test_with_both_it_is_the_weighted_product(models: tuple[Path, Path], tmp_path: Path) -> None:
    of_voice, of_face = map(bundle.load, models)
    batch = clips()
    for weight in (0.0, 0.5, 2.0):
        folder = join_bundles(of_voice, of_face, tmp_path / "av", weight=weight, name="av")
        net = bundle.load(folder).net
        with torch.inference_mode():
            streams = net(batch)
        shares = {
            name: (streams[name].logits / net.temperature(name)).softmax(-1)
            for name in ("audio", "video")
        }
        product = shares["audio"] * shares["video"] ** weight
        product /= product.sum()
        assert torch.allclose(answers(net, batch)[0], product, atol=1e-6)
        assert answers(net, batch)[2] == 0
    made = bundle.load(tmp_path / "av")
    assert made.provenance.corpora == ["ravdess", "fer2013"]
    assert made.provenance.licence == "CC BY; research"
    assert list(made.net.outputs) == ["fused", "audio", "video"]


def test_classes_in_another_order_are_put_in_order(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    of_voice = bundle.load(models[0])
    turned = bundle.load(face_bundle(tmp_path / "turned", ("angry", "happy", "sad")))
    expected = answers(turned.net, clips(sound=False, steps=1))[0][0, [1, 2, 0]]
    joined = bundle.load(join_bundles(of_voice, turned, tmp_path / "av", weight=1.0, name="av"))
    result = answers(joined.net, clips(sound=False, steps=1))[0][0]
    assert torch.allclose(result, expected, atol=1e-5)


def test_models_that_do_not_fit_are_refused(models: tuple[Path, Path], tmp_path: Path) -> None:
    of_voice, of_face = map(bundle.load, models)
    other = bundle.load(face_bundle(tmp_path / "other", ("happy", "sad", "fearful")))
    with pytest.raises(BundleError, match="not both have angry, fearful"):
        join_bundles(of_voice, other, tmp_path / "av", weight=1.0, name="av")
    with pytest.raises(BundleError, match="face: it has no audio encoder"):
        join_bundles(of_face, of_face, tmp_path / "av", weight=1.0, name="av")
    with pytest.raises(ConfigError, match=r"weight -1.0 of late fusion: legal is 0 or more"):
        LateFusion(weight=-1.0)


def test_a_face_that_tells_nothing_gets_no_weight() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    hit = np.where(random.random((300, 1)) < 0.7, np.eye(3)[labels], np.eye(3)[(labels + 1) % 3])
    shares = 0.7 * hit + 0.1
    flat = np.full((300, 3), 1 / 3)
    assert choose_weight(shares, flat, labels)[0] == 0.0
    other = np.where(random.random((300, 1)) < 0.7, np.eye(3)[labels], np.eye(3)[(labels + 2) % 3])
    weight, losses = choose_weight(shares, 0.7 * other + 0.1, labels)
    assert 0.5 < weight <= 1.5 and losses[weight] < 0.8 * losses[0.0]


def test_pairs_are_of_one_label_and_the_same_each_time() -> None:
    rows, partners = pair_by_label(np.array([0, 1, 2, 0]), np.array([1, 0, 0]))
    assert rows.tolist() == [0, 1, 3] and set(partners[[0, 2]]) <= {1, 2} and partners[1] == 0
    again = pair_by_label(np.array([0, 1, 2, 0]), np.array([1, 0, 0]))
    assert again[1].tolist() == partners.tolist()


def test_steps_that_one_stream_has_keep_its_prediction() -> None:
    audio, video = torch.randn(1, 3, 4), torch.randn(1, 2, 4)
    on_audio = torch.tensor([[True, False, False]])
    on_video = torch.tensor([[True, True]])
    logits, mask = LateFusion(weight=2.0).join_steps(audio, on_audio, video, on_video)
    assert mask.tolist() == [[True, True, False]]
    both = audio[0, 0].log_softmax(-1) + 2 * video[0, 0].log_softmax(-1)
    assert torch.allclose(logits[0, 0], both.log_softmax(-1), atol=1e-6)
    assert torch.allclose(logits[0, 1], video[0, 1].log_softmax(-1), atol=1e-6)


def predictions(path: Path, shares: np.ndarray, labels: np.ndarray) -> None:
    names = [f"clip{i}" for i in range(len(labels))]
    blank = [""] * len(labels)
    Predictions(
        clip_ids=names,
        speakers=blank,
        sexes=blank,
        labels=labels,
        probabilities=shares,
        emotions=EMOTIONS,
        seen=[False] * len(labels),
    ).save(path)


def test_command_chooses_the_weight_on_validation(
    models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "av.tiny"
    assert main(["join", *map(str, models), "--out", str(out)]) == 1
    assert "give --weight, such as 0.5" in capsys.readouterr().err
    labels = np.arange(60) % 3
    for model in models:
        folder = tmp_path / f"{model.name}.run"
        model.rename(folder.parent / "moved")
        folder.mkdir()
        (folder.parent / "moved").rename(folder / "bundle")
        predictions(
            folder / "predictions" / "validation.json", np.eye(3)[labels] * 0.7 + 0.1, labels
        )
    runs = [str(tmp_path / f"{model.name}.run") for model in models]
    assert main(["join", *runs, "--out", str(out)]) == 0
    assert "60 validation pairs (PAIRED)" in capsys.readouterr().out
    made = bundle.load(out)
    assert made.name == "av.tiny" and isinstance(made.net.fusion, LateFusion)
    assert made.net.fusion.weight == 1.5  # both always right: the sharper, the better
    assert main(["join", *runs, "--out", str(out), "--weight", "0.25", "--name", "x"]) == 0
    again = json.loads(json.dumps(bundle.load(out).config))
    assert again["name"] == "x" and again["net"]["fusion"]["init_args"] == {"weight": 0.25}


def test_a_head_trained_on_pictures_has_a_linear_equal() -> None:
    torch.manual_seed(0)
    head = AttentiveHead(dropout=0.2).build(6, 3).eval()
    linear = head.on_single_steps().eval()
    assert isinstance(linear, LinearHead)
    x, mask = torch.randn(5, 1, 6), torch.ones(5, 1, dtype=torch.bool)
    with torch.no_grad():
        assert torch.allclose(linear(x, mask)[0], head(x, mask)[0], atol=1e-5)
        assert torch.allclose(linear(x, mask)[1][:, 0], head(x, mask)[0], atol=1e-5)
