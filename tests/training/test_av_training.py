"""Training with a picture stream: precomputed features, enrolment, what the tables say."""

import json
from pathlib import Path

import pytest
import torch

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.data.splits import HeldOut
from avser.datamodules.clips import ClipDataModule
from avser.datamodules.corpora.ravdess import Ravdess
from avser.errors import ConfigError
from avser.evaluation.summary import ENROLLED
from avser.models.encoders.features import FeatureVideoEncoder
from avser.models.fusion.concat import ConcatFusion
from avser.models.heads import AttentiveHead
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.media import voice as synthetic_voice
from avser.testing.nets import tiny_audio_encoder, tiny_bundle
from avser.training.augment import Augment
from avser.training.task import EmotionTask
from avser.types import audio_batch

CONFIG = """\
data:
  corpus:
    class_path: avser.datamodules.corpora.ravdess.Ravdess
    init_args: {root: ROOT, features: auto}
  split:
    class_path: avser.data.splits.SpeakerKFold
    init_args: {folds: 3, fold: 0, validation_speakers: 1}
  video: features
  emotions: [happy, sad, angry]
  batch_size: 8
model:
  audio:
    class_path: avser.models.encoders.crnn.CrnnEncoder
    init_args:
      frontend:
        class_path: avser.models.frontends.logmel.LogMel
        init_args: {bins: 16, window: 512, hop: 512, n_fft: 512}
      normalise: speaker
      channels: [4, 8]
      pools: [[2, 2], [2, 2]]
      width: 16
      hidden: 8
  video:
    class_path: avser.models.encoders.features.FeatureVideoEncoder
    init_args: {features: 35, dim: 8}
  fusion:
    class_path: avser.models.fusion.concat.ConcatFusion
  head:
    class_path: avser.models.heads.AttentiveHead
    init_args: {hidden: 8}
  schedule: constant
  lr: 1.0e-2
trainer:
  accelerator: cpu
  max_epochs: 1
  enable_progress_bar: false
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("av")
    return fake_ravdess(folder / "ravdess", speakers=6, per_emotion=2)


@pytest.fixture(autouse=True)
def cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSER_CACHE", str(root.parent / "cache"))


def module(root: Path, **settings: str) -> ClipDataModule:
    corpus = Ravdess(root, features="auto")
    split = HeldOut(test=["06"], validation=["05"])
    return ClipDataModule(corpus, split, emotions=["happy", "sad", "angry"], **settings)  # type: ignore[arg-type]


def test_features_stand_beside_their_own_clips(root: Path) -> None:
    data = module(root, video="features")
    (batch,) = data.loader(data.parts.test)
    size, steps = len(batch["clip_id"]), batch["waveform"].shape[1] / 8192
    assert batch["video_features"].shape[:2] == (size, -(-int(steps * 8192) // 8192))
    rows = {c.clip_id: c for c in data.parts.test}
    from avser.media.visual_features import read_features

    for name, row in zip(batch["clip_id"], batch["video_features"], strict=True):
        known = read_features(str(rows[name.partition("/")[2]].features)).values[0]
        assert torch.equal(row[0], torch.from_numpy(known))
    assert data.notes == ["picture features are clip-mean"] and data.marks == []
    with pytest.raises(ConfigError, match="has any"):
        lost = ClipDataModule(Ravdess(root), HeldOut(test=["06"]), video="features")
        _ = lost.prepared


def test_an_enrolled_voice_is_measured_by_its_own_speaker(root: Path) -> None:
    data = module(root, enrol="speaker")
    encoder = tiny_audio_encoder()
    encoder.normaliser.mode = "speaker"
    early = data.loader(data.parts.test)  # Lightning makes loaders before training begins
    (plain,) = early
    assert not plain["speaker_statistics"].numel() and data.marks == [ENROLLED]
    data.enrol_speakers(encoder)
    (late,) = early
    assert late["speaker_statistics"].shape == (len(late["label"]), 2, 1, 16)
    clips = [c for c in data.rows if c.speaker == "ravdess/06"]
    (batch,) = data.loader(clips)
    raw, mask = encoder.raw_features(batch["waveform"], batch["lengths"])
    own = encoder.normaliser(raw, mask, batch["speaker_statistics"])
    frames = own.movedim(-1, 1)[mask]  # [frames, C, M] of all clips of the speaker
    torch.testing.assert_close(frames.mean(dim=0), torch.zeros(1, 16), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        frames.std(dim=0, unbiased=False), torch.ones(1, 16), atol=1e-3, rtol=0
    )
    unknown = torch.full_like(batch["speaker_statistics"], torch.nan)
    encoder.normaliser.mode = "clip"
    fallback = encoder.normaliser(raw, mask)
    encoder.normaliser.mode = "speaker"
    assert torch.equal(encoder.normaliser(raw, mask, unknown), fallback)


def test_av_training_releases_a_model_and_tells_each_streams_figure(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "av.yaml"
    config.write_text(CONFIG.replace("ROOT", str(root)))
    words = ["crossval", "-c", str(config), "--data.enrol=speaker", "--fold", "0"]
    row = tmp_path / "row.json"
    assert main([*words, "--out", str(tmp_path / "cv"), "--row", str(row)]) == 0
    fold = tmp_path / "cv" / "seed0" / "fold0"
    results = json.loads((fold / "results.json").read_text())
    assert results["marks"] == [ENROLLED]
    assert "picture features are clip-mean" in results["notes"]
    assert set(results["streams"]) == {"audio", "video"}
    (kept,) = json.loads(row.read_text())
    assert kept["uar_audio"] == results["streams"]["audio"]["uar"]
    assert "UAR, audio alone" in capsys.readouterr().out
    net = bundle.load(fold).net
    assert net.fusion is not None and net.video is not None
    assert net.video.deviation.ne(1).any()  # statistics of the training part travel with the model

    # measured again from the bundle, it is the same; the picture is asked for by the model itself
    plain = tmp_path / "plain.yaml"
    plain.write_text(config.read_text().replace("  video: features\n", ""))
    recorded = tmp_path / "evaluate.json"
    measure = ["evaluate", "--model", str(fold), "-c", str(plain), "--data.enrol=speaker"]
    assert main([*measure, "--json", str(recorded)]) == 0
    result = json.loads(recorded.read_text())
    assert result["uar"]["value"] == results["uar"]["value"] and result["marks"] == [ENROLLED]

    # a second training starts from the first one's streams, of the same fold
    init = f"--model.init={{audio: {tmp_path}/cv/seed{{seed}}/fold{{fold}}}}"
    hold = "--model.freeze={audio: -1}"
    again = [*words, "--out", str(tmp_path / "again"), init, hold]
    assert main(again) == 0
    other = bundle.load(tmp_path / "again/seed0/fold0").net
    assert other.audio is not None and net.audio is not None
    assert all(map(torch.equal, other.audio.parameters(), net.audio.parameters()))
    assert other.fusion is not None
    assert not all(map(torch.equal, other.fusion.parameters(), net.fusion.parameters()))


def test_mixup_of_voices_alone_is_refused_beside_a_face() -> None:
    with pytest.raises(ConfigError, match="mixes voices and labels but not faces"):
        EmotionTask(
            audio=tiny_audio_encoder(),
            video=FeatureVideoEncoder(features=2, dim=4),
            fusion=ConcatFusion(width=4),
            head=AttentiveHead(hidden=4),
            emotions=("happy", "sad"),
            augment=Augment(mixup=0.2),
        )


def test_a_frozen_start_stays_the_model_that_it_starts_from(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    voice = tiny_bundle(tmp_path / "voice", ("happy", "sad", "angry"))
    settings = voice / "config.yaml"
    settings.write_text(settings.read_text().replace("audio: 1.0", "audio: 0.7"))
    config = tmp_path / "av.yaml"
    config.write_text(CONFIG.replace("ROOT", str(root)).replace("speaker\n", "utterance\n"))
    words = ["fit", "-c", str(config), f"--model.init={{audio: {voice}}}"]
    assert main([*words, "--model.freeze={audio: -1}", "--out", str(tmp_path / "run")]) == 0
    before, after = bundle.load(voice).net, bundle.load(tmp_path / "run").net
    assert after.fusion is not None and float(after.temperature("audio")) == pytest.approx(0.7)
    samples = torch.from_numpy(synthetic_voice("sad", seconds=1.5))[None]
    batch = audio_batch(samples, torch.tensor([samples.shape[1]]))
    with torch.inference_mode():
        alone, joined = (net.predict(net(batch)) for net in (before, after))
    assert torch.equal(alone.probabilities, joined.probabilities)
    assert torch.equal(alone.step_probabilities, joined.step_probabilities)
