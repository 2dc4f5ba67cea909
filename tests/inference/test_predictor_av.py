"""Clips with a face, through a net of both streams."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avser.cli import main
from avser.errors import ConfigError, SignalError
from avser.inference.classifier import Failure
from avser.inference.ensemble import Ensemble
from avser.inference.predictor import Predictor
from avser.media.clip import DISAGREEMENT, disagreement
from avser.media.faces import MtcnnDetector
from avser.media.reader import read_audio
from avser.models.encoders.face_cnn import FaceCnnEncoder
from avser.models.encoders.features import FeatureVideoEncoder
from avser.models.fusion.concat import ConcatFusion
from avser.models.heads import AttentiveHead
from avser.models.net import EmotionNet
from avser.testing.faces import Person, head, read_picture, scene, speaking
from avser.testing.media import voice, write_video, write_wav
from avser.testing.nets import tiny_audio_encoder, tiny_net
from avser.types import Prediction, TimelineEntry

FACE = Path(__file__).parents[2] / "examples" / "face.jpg"
EMOTIONS = ("happy", "sad", "angry")
SECONDS, FPS = 2.0, 8.0
OPENINGS = np.abs(np.sin(np.arange(int(SECONDS * FPS)) * 1.7))


def av_net(video: torch.nn.Module | None = None) -> EmotionNet:
    torch.manual_seed(0)
    return EmotionNet(
        audio=tiny_audio_encoder(),
        video=video or FaceCnnEncoder(channels=(8, 8), blocks=(1, 1)),  # type: ignore[arg-type]
        fusion=ConcatFusion(width=8),
        head=AttentiveHead(hidden=8),
        emotions=EMOTIONS,
    ).eval()


def streams_reason(prediction: Prediction) -> str | None:
    """The reason without the disagreement of label and timeline: an untrained net has it often."""
    parts = [p for p in (prediction.reason or "").split("; ") if not p.startswith(DISAGREEMENT)]
    return "; ".join(p for p in parts if p) or None


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    sound = Predictor(tiny_net(EMOTIONS), name="voice", device="cpu")
    return Predictor(av_net(), name="both", device="cpu", detector=MtcnnDetector(), voice=sound)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person, two people, nobody; with a voice, with silence, without sound."""
    folder = tmp_path_factory.mktemp("clips")
    face = read_picture(FACE)
    count = int(SECONDS * FPS)
    one = Person(speaking(head(face, height=110), OPENINGS), [(0.3, 0.5)] * count)
    two = Person(head(face, height=80, mirrored=True, beard=True), [(0.75, 0.5)] * count)
    scenes = {"one": [one], "two": [one, two], "none": []}
    sound = voice("happy", seconds=SECONDS)
    for name, people in scenes.items():
        pictures = np.stack([scene(people, index=i) for i in range(count)])
        write_video(folder / f"{name}.mp4", pictures, samples=sound, fps=FPS)
        if name == "one":
            write_video(folder / "silent.mp4", pictures, samples=0 * sound, fps=FPS)
            write_video(folder / "mute.mp4", pictures, fps=FPS)
    write_wav(folder / "voice.wav", sound)
    return folder


def test_voice_and_face_answer_together(predictor: Predictor, folder: Path) -> None:
    answer = predictor(folder / "one.mp4")
    assert answer.modalities == ("audio", "video") and streams_reason(answer) is None
    assert answer.model == "both" and answer.faces is None
    assert len(answer.boxes) == 8 and all(0 < b.x < 0.3 and b.score > 0.9 for b in answer.boxes)
    assert "faces" not in answer.to_dict()
    forced = Predictor(predictor.net, name="both")(folder / "one.mp4", modality="audio")
    assert forced.modalities == ("audio",) and streams_reason(forced) is None
    assert forced.probabilities != answer.probabilities
    samples = torch.from_numpy(read_audio(folder / "one.mp4"))[None]
    with torch.inference_mode():
        shares = predictor.net.audio_branch()(samples, torch.tensor([samples.shape[1]]))[0][0]
    assert list((forced.probabilities or {}).values()) == pytest.approx(shares.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "modalities", "reason"),
    [
        ("none.mp4", ("audio",), "no face found in 8 of 8 sampled frames"),
        ("silent.mp4", ("video",), "the sound is silent"),
        ("mute.mp4", ("video",), "the file has no sound"),
    ],
)
def test_what_is_missing_is_said(
    predictor: Predictor, folder: Path, name: str, modalities: tuple[str, ...], reason: str
) -> None:
    answer = predictor(folder / name)
    assert answer.modalities == modalities and streams_reason(answer) == reason
    assert answer.label in EMOTIONS and answer.timeline


def test_a_face_alone_says_the_same_with_silence_and_without_sound(
    predictor: Predictor, folder: Path
) -> None:
    silent, mute = predictor(folder / "silent.mp4"), predictor(folder / "mute.mp4")
    assert silent.probabilities == pytest.approx(mute.probabilities, abs=1e-5)
    by_face = predictor(folder / "one.mp4", modality="video")
    assert by_face.modalities == ("video",)
    assert by_face.probabilities == pytest.approx(mute.probabilities, abs=1e-3)


def test_sound_files_go_to_the_voice_model(predictor: Predictor, folder: Path) -> None:
    files = [folder / "voice.wav", folder / "one.mp4", folder / "voice.wav"]
    answers = list(predictor.classify(files))
    assert [a.model for a in answers if not isinstance(a, Failure)] == ["voice", "both", "voice"]
    assert predictor(folder / "one.mp4", modality="audio").model == "voice"
    alone = Predictor(predictor.net, name="both")(folder / "voice.wav")
    assert streams_reason(alone) == "the file has no picture" and alone.modalities == ("audio",)
    with pytest.raises(SignalError, match="no video stream"):
        predictor(folder / "voice.wav", modality="both")


def test_every_face_answers_alone_when_asked(predictor: Predictor, folder: Path) -> None:
    (answer,) = predictor.classify([folder / "two.mp4"], faces="all")
    assert not isinstance(answer, Failure) and answer.faces is not None
    assert len(answer.faces) == 2
    first, second = answer.to_dict()["faces"]
    assert first["face_id"] != second["face_id"]
    assert first["boxes"][0]["w"] > second["boxes"][0]["w"]  # the main person is the larger one
    assert first["probabilities"] != second["probabilities"]
    assert set(first["boxes"][0]) == {"time_s", "x", "y", "w", "h", "score"}
    main_alone = predictor(folder / "one.mp4", modality="video")
    assert first["probabilities"] == pytest.approx(main_alone.probabilities, abs=0.05)
    assert [f["speaks"] for f in answer.to_dict()["faces"]] == [True, False]
    (nobody,) = predictor.classify([folder / "none.mp4"], faces="all")
    assert nobody.to_dict()["faces"] == []


def test_pictures_of_the_main_person_are_embedded_once(
    predictor: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for every face has the main one's answer from the clip's own pass."""
    video = predictor.net.video
    assert isinstance(video, FaceCnnEncoder)
    (lone,) = predictor.classify([folder / "one.mp4"], faces="all")
    assert not isinstance(lone, Failure) and lone.faces is not None
    again = predictor(folder / "one.mp4", modality="video")
    assert lone.faces[0].probabilities == pytest.approx(again.probabilities, abs=1e-5)
    assert [s.label for s in lone.faces[0].timeline] == [s.label for s in again.timeline]
    counts: list[int] = []
    embed = video.embed
    monkeypatch.setattr(video, "embed", lambda x: counts.append(len(x)) or embed(x))
    predictor(folder / "one.mp4")
    plain = sum(counts)
    counts.clear()
    list(predictor.classify([folder / "one.mp4"], faces="all"))
    assert sum(counts) == plain > 0


def test_a_long_clip_is_answered_in_windows(predictor: Predictor, tmp_path: Path) -> None:
    face = head(read_picture(FACE), height=70)
    heads = speaking(face, np.arange(160) % 3 / 2)
    person = Person(heads, [(0.5, 0.5)] * 160)
    pictures = np.stack([scene([person], index=i, size=(90, 120)) for i in range(160)])
    sound = np.tile(voice("sad", seconds=2.0), 40)
    path = write_video(tmp_path / "long.mp4", pictures, samples=sound, fps=2.0)
    answer = predictor(path)
    assert answer.duration_s == pytest.approx(80, abs=1)
    assert len(answer.timeline) == pytest.approx(157, abs=2)
    assert answer.modalities == ("audio", "video")
    assert sum(e.label is not None for e in answer.timeline) > 150


def test_precomputed_features_stand_for_the_face(folder: Path, tmp_path: Path) -> None:
    net = av_net(FeatureVideoEncoder(features=2, dim=4))
    path = folder / "voice.wav"
    without = Predictor(net, name="aus")(folder / "one.mp4")
    assert without.modalities == ("audio",) and "give --features" in str(without.reason)
    table = tmp_path / "aus.csv"
    table.write_text("AU01_r,AU02_r,name\n0.5,2.0,voice\n")
    by_row = Predictor(net, name="aus", features=table)
    assert by_row(path).modalities == ("audio", "video")
    assert by_row(folder / "one.mp4").modalities == ("audio",)  # no row
    wider = tmp_path / "blendshapes.csv"
    wider.write_text("a,b,c,name\n0.5,2.0,1.0,voice\n")
    with pytest.raises(
        ConfigError, match=r"rows have 3 values and model aus reads 2; give a table"
    ):
        Predictor(net, name="aus", features=wider)(path)
    before = by_row(path).probabilities
    by_row.enrol([path])
    assert by_row(path).probabilities != before
    with pytest.raises(ConfigError, match="does not normalise by speaker"):
        Predictor(net, name="aus").enrol([path])


def test_a_face_is_centred_on_the_enrolled_person(predictor: Predictor, folder: Path) -> None:
    enrolled = Predictor(av_net(), name="both", device="cpu", detector=predictor.detector)
    before = enrolled(folder / "one.mp4", modality="video")
    enrolled.enrol([folder / "one.mp4", folder / "none.mp4"])
    after = enrolled(folder / "one.mp4", modality="video")
    assert streams_reason(after) == "the face is centred on the enrolled person"
    steps = [e.probabilities for e in after.timeline if e.probabilities is not None]
    logs = np.log([[p[name] for name in EMOTIONS] for p in steps])
    centred = logs.mean(axis=0) - logs.mean()
    np.testing.assert_allclose(centred, 0, atol=1e-3)  # the person's own mean shows nothing
    assert before.probabilities != after.probabilities
    sound = enrolled(folder / "one.mp4", modality="audio")
    assert streams_reason(sound) is None  # no face is judged, so nothing is marked
    with pytest.raises(SignalError, match="show no face"):
        by_face = EmotionNet(
            video=FaceCnnEncoder(channels=(8, 8), blocks=(1, 1)),
            head=AttentiveHead(),
            emotions=EMOTIONS,
        )
        Predictor(by_face, detector=predictor.detector).enrol([folder / "none.mp4"])


def test_command_writes_the_annotated_clip_and_the_plot(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from avser.bundle import serialization as bundle

    face = {"class_path": "avser.models.encoders.face_cnn.FaceCnnEncoder"}
    face["init_args"] = {"channels": [8, 8], "blocks": [1, 1]}  # type: ignore[assignment]
    spec = {"video": face, "head": {"class_path": "avser.models.heads.AttentiveHead"}}
    torch.manual_seed(0)
    net = EmotionNet(
        video=FaceCnnEncoder(channels=(8, 8), blocks=(1, 1)),
        head=AttentiveHead(),
        emotions=EMOTIONS,
    )
    made = bundle.save(
        net, tmp_path / "face", spec=spec, name="face", provenance=bundle.Provenance()
    )
    words = ["classify", str(folder / "one.mp4"), "--model", str(made)]
    files = {name: tmp_path / name for name in ("out.mp4", "plot.png")}
    words += ["--annotate", str(files["out.mp4"]), "--plot", str(files["plot.png"])]
    assert main([*words, "--faces", "all"]) == 0
    printed = capsys.readouterr().out
    assert "(video, face)" in printed
    label, share = re.findall(r"one\.mp4: (\w+) ([\d.]+) %", printed)[0]
    assert f"  face 0: {label} {share} %  (speaks)" in printed  # the same face alone
    assert main(["classify", "x.wav", "--model", "audio_small.multi", "--faces", "all"]) == 1
    assert "audio_small.multi judges no faces; leave --faces out" in capsys.readouterr().err
    assert all(path.stat().st_size > 2000 for path in files.values())


# -- which model predicts, and what the reason says ----------------------------------------------


def test_without_a_judged_face_the_voice_model_predicts_bit_for_bit(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    sound = voice("happy", seconds=SECONDS)
    count = int(SECONDS * FPS)
    pictures = {
        "black": np.zeros((count, 240, 320, 3), np.uint8),
        "still": np.repeat(np.full((1, 240, 320, 3), 90, np.uint8), count, axis=0),
        "faceless": np.stack([scene([], index=i) for i in range(count)]),
    }
    assert predictor.voice is not None
    for name, frames in pictures.items():
        path = write_video(tmp_path / f"{name}.mp4", frames, samples=sound, fps=FPS)
        prediction, alone = predictor(path), predictor.voice(path, modality="audio")
        assert prediction.model == "voice" and prediction.modalities == ("audio",)
        assert prediction.probabilities == alone.probabilities
        assert prediction.timeline == alone.timeline
        assert str(prediction.reason).startswith("no face found in")


def test_a_still_face_beside_a_voice_is_not_judged(predictor: Predictor, tmp_path: Path) -> None:
    sound = voice("happy", seconds=SECONDS)
    face = head(read_picture(FACE), height=110)
    count = int(SECONDS * FPS)
    pictures = np.stack(
        [scene([Person(face, [(0.5, 0.5)] * count)], index=i) for i in range(count)]
    )
    path = write_video(tmp_path / "portrait.mp4", pictures, samples=sound, fps=FPS)
    assert predictor.voice is not None
    alone = predictor.voice(path, modality="audio")
    (prediction,) = predictor.classify([path], faces="all")
    assert isinstance(prediction, Prediction)
    assert prediction.probabilities == alone.probabilities
    assert prediction.timeline == alone.timeline and prediction.modalities == ("audio",)
    assert "the face is still while somebody speaks" in str(prediction.reason)
    assert prediction.faces is not None and [f.speaks for f in prediction.faces] == [False]
    both = predictor(path, modality="both")
    assert both.modalities == ("audio", "video") and both.model == "both"
    # one net alone: its own audio branch answers, as if there were no picture
    single = Predictor(predictor.net, name="both", detector=predictor.detector)
    assert single(path).probabilities == single(path, modality="audio").probabilities
    mute = write_video(tmp_path / "mute.mp4", pictures, fps=FPS)
    assert single(mute).modalities == ("video",)


def test_a_second_person_is_mentioned_where_it_matters(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    mention = (
        "2 faces are seen (one of them still, as a photograph), and the one whose lips move with "
        "the sound is judged; --faces all judges each"
    )
    assert mention in str(predictor(folder / "two.mp4").reason)
    assert mention not in str(predictor(folder / "one.mp4").reason)


def test_a_still_picture_is_judged_by_its_face(predictor: Predictor, tmp_path: Path) -> None:
    (prediction,) = predictor.classify([FACE])
    assert isinstance(prediction, Prediction)
    assert prediction.modalities == ("video",) and prediction.model == "both"
    assert (prediction.duration_s, prediction.timeline) == (0.0, ())
    assert len(prediction.boxes) == 1 and prediction.label in EMOTIONS
    turned = tmp_path / "photo.PNG"
    turned.write_bytes(FACE.read_bytes())  # the content decides how it is decoded
    assert predictor(turned).probabilities == prediction.probabilities
    wall = tmp_path / "wall.jpg"
    wall.write_bytes(b"this is no picture")
    nobody = write_picture(tmp_path / "nobody.png")
    failed, empty = predictor.classify([wall, nobody])
    assert isinstance(failed, Failure) and "no picture, or damaged" in str(failed.error)
    assert isinstance(empty, Prediction) and empty.reason == "no_signal"
    with pytest.raises(SignalError, match="no audio stream"):
        predictor(FACE, modality="audio")


def write_picture(path: Path) -> Path:
    import cv2

    cv2.imwrite(str(path), np.full((240, 320, 3), 90, np.uint8))
    return path


@pytest.mark.parametrize(
    ("label", "steps", "reason"),
    [
        ("happy", ["happy", "sad", "happy"], None),
        ("happy", ["happy", "sad"], None),  # as many: no disagreement
        ("happy", ["sad", None, "sad", "happy"], "2 of its 3 steps alone sad"),
        ("angry", ["happy"], "1 of its 1 steps alone happy"),
        ("happy", [None], None),
    ],
)
def test_a_label_that_most_steps_do_not_have_is_reported(
    label: str, steps: list[str | None], reason: str | None
) -> None:
    timeline = [
        TimelineEntry(start_s=i, end_s=i + 1, label=step, probabilities=None)
        for i, step in enumerate(steps)
    ]
    sentences = disagreement(label, timeline)
    assert sentences == ([] if reason is None else [f"{DISAGREEMENT} {label}, {reason}"])


def test_a_prediction_agrees_with_its_timeline_or_says_so(
    predictor: Predictor, folder: Path
) -> None:
    for path in sorted(folder.iterdir()):
        prediction = predictor(path)
        labels = [e.label for e in prediction.timeline if e.label]
        most = max(labels.count(name) for name in labels)
        recorded = DISAGREEMENT in str(prediction.reason)
        assert recorded == (labels.count(str(prediction.label)) < most)


def test_a_file_is_opened_once_and_its_model_chosen_once(
    predictor: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avser.media import reader

    opened: list[str] = []
    chosen: list[object] = []
    real_open, real_choose = reader.open_file, Predictor._choose

    def open_file(path: Path) -> Any:
        opened.append(path.name)
        return real_open(path)

    def choose(self: Predictor, clip: Any, modality: Any) -> Predictor:
        chosen.append(clip)
        return real_choose(self, clip, modality)

    monkeypatch.setattr(reader, "open_file", open_file)
    monkeypatch.setattr(Predictor, "_choose", choose)
    names = ["voice.wav", "one.mp4", "none.mp4"]
    paths = [folder / name for name in names]
    assert len(list(predictor.classify(paths, progress=lambda *_: None))) == 3
    assert sorted(opened) == sorted(names) and len(chosen) == 3
    opened.clear()
    both = Ensemble([predictor, predictor])
    assert len(list(both.classify(paths))) == 3
    assert sorted(opened) == sorted(names)  # once for all models
