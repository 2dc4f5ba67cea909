import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Provenance
from avser.errors import AvserError, ConfigError, MediaError, SignalError
from avser.inference.classifier import Failure
from avser.inference.predictor import Predictor
from avser.media.clip import DISAGREEMENT
from avser.testing.media import face_frames, voice, write_video, write_wav
from avser.testing.nets import tiny_net, tiny_spec
from avser.types import STEP_S, Prediction, steps_of

Wave = NDArray[np.float32]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny_net(), name="tiny", device="cpu")


def sound(emotion: str = "happy", seconds: float = 1.3, sample_rate: int = 16_000) -> Wave:
    return voice(emotion, seconds=seconds, sample_rate=sample_rate)


def close(a: Prediction, b: Prediction, *, within: float = 1e-4) -> bool:
    """Whether two answers say the same, step by step."""
    assert a.probabilities is not None and b.probabilities is not None
    pairs = [(a.probabilities, b.probabilities)]
    pairs += [
        (x.probabilities or {}, y.probabilities or {})
        for x, y in zip(a.timeline, b.timeline, strict=True)
    ]
    return (a.label, a.modalities) == (b.label, b.modalities) and all(
        x == pytest.approx(y, abs=within) for x, y in pairs
    )


# -- one clip ------------------------------------------------------------------------------------


def test_an_answer_is_a_distribution_with_a_timeline(predictor: Predictor, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", sound())
    answer = predictor(path)
    assert answer.probabilities is not None
    assert list(answer.probabilities) == ["happy", "sad", "angry"]
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert answer.label == max(answer.probabilities, key=answer.probabilities.__getitem__)
    assert answer.modalities == ("audio",)
    assert answer.reason is None or answer.reason.startswith(DISAGREEMENT)
    assert answer.duration_s == pytest.approx(1.3, abs=1e-3)
    assert answer.model == "tiny" and answer.path == str(path)
    assert [e.start_s for e in answer.timeline] == pytest.approx([0, STEP_S, 2 * STEP_S])
    assert answer.timeline[-1].end_s == pytest.approx(1.3, abs=1e-3)
    assert json.loads(json.dumps(answer.to_dict()))["label"] == answer.label


def test_a_file_and_its_samples_give_the_same(predictor: Predictor, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", sound())
    assert close(predictor(path), predictor(sound(), sample_rate=16_000), within=5e-3)
    assert close(predictor(str(path)), predictor(path), within=0)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_samples_of_another_rate_are_resampled(predictor: Predictor, rate: int) -> None:
    times = np.arange(int(1.3 * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * 300 * times).astype(np.float32)
    same = 0.3 * np.sin(2 * np.pi * 300 * np.arange(int(1.3 * 16000)) / 16000)
    answer = predictor(wave, sample_rate=rate)
    assert answer.duration_s == pytest.approx(1.3, abs=1e-3)
    assert close(answer, predictor(same.astype(np.float32), sample_rate=16_000), within=0.05)


def test_channels_are_averaged_and_any_float_will_do(predictor: Predictor) -> None:
    mono = predictor(sound(), sample_rate=16_000)
    pair = np.stack([1.5 * sound(), 0.5 * sound()])
    assert close(predictor(pair, sample_rate=16_000), mono)
    assert close(predictor(sound().astype(np.float64), sample_rate=16_000), mono, within=0)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(100, np.float32), None, "pass sample_rate in Hz"),
        (np.zeros(100, np.float32), 0, "pass sample_rate in Hz"),
        (np.zeros((2, 2, 2), np.float32), 16_000, r"shape \(2, 2, 2\)"),
        (np.full(100, np.nan, np.float32), 16_000, "finite"),
        (np.zeros(100, np.int16), 16_000, "int16.*divide"),
        (np.zeros((100, 2), np.float32), 16_000, "transpose"),
    ],
)
def test_bad_samples_are_refused(
    predictor: Predictor, samples: Wave, rate: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^Bad samples.*{message}"):
        predictor(samples, sample_rate=rate)


def test_what_is_no_source_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match=r"type int: expected a path; floats \[S\]"):
        predictor([42])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="Bad device 'gpu'"):
        Predictor(tiny_net(), device="gpu")


# -- nothing to judge ----------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "rate"), [(20_000, 16_000), (0, 16_000), (0, 8_000)])
def test_silence_has_no_answer_and_says_why(predictor: Predictor, samples: int, rate: int) -> None:
    answer = predictor(np.zeros(samples, np.float32), sample_rate=rate)
    assert (answer.label, answer.probabilities, answer.timeline) == (None, None, ())
    assert answer.reason == "no_signal" and answer.modalities == ()
    assert answer.duration_s == samples / rate
    assert answer.to_dict()["probabilities"] is None


def test_a_picture_without_sound_has_no_answer(predictor: Predictor, tmp_path: Path) -> None:
    path = write_video(tmp_path / "mute.mp4", face_frames("happy", count=8))
    answer = predictor(path)
    assert answer.label is None and answer.reason == "no_signal" and answer.path == str(path)


def test_a_picture_with_sound_is_answered_by_its_sound(
    predictor: Predictor, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "a.mp4", face_frames("happy", count=13), samples=sound())
    answer = predictor(path)
    assert answer.label is not None and answer.modalities == ("audio",)


# -- many ----------------------------------------------------------------------------------------


def test_a_list_gives_what_its_members_give_in_their_order(
    predictor: Predictor, tmp_path: Path
) -> None:
    waves = [sound(e, s) for e, s in (("happy", 0.4), ("sad", 2.1), ("angry", 1.0))]
    paths = [write_wav(tmp_path / f"{i}.wav", w) for i, w in enumerate(waves)]
    mixed: list[Path | Wave] = [paths[1], waves[0], paths[2], waves[2], paths[0]]
    together = predictor(mixed, sample_rate=16_000)
    alone = [predictor(m, sample_rate=16_000) for m in mixed]
    assert all(close(a, b) for a, b in zip(together, alone, strict=True))
    assert [p.path for p in together] == [str(paths[1]), None, str(paths[2]), None, str(paths[0])]
    assert predictor([]) == []


def test_many_files_keep_their_order_and_a_bad_one_stops_nothing(
    predictor: Predictor, tmp_path: Path
) -> None:
    seconds = [0.2 + 0.1 * (7 * i % 5) for i in range(40)]
    paths = [write_wav(tmp_path / f"{i}.wav", sound(seconds=s)) for i, s in enumerate(seconds)]
    paths[3].write_text("this is no sound")
    paths[35].unlink()
    result = list(predictor.classify(iter(paths), workers=3))
    assert [str(p) for p in paths] == [f.path for f in result]
    failures = {i: f for i, f in enumerate(result) if isinstance(f, Failure)}
    assert list(failures) == [3, 35]
    assert all(isinstance(f.error, MediaError) for f in failures.values())
    assert failures[3].to_dict()["error"] == {
        "type": "MediaError",
        "message": str(failures[3].error),
    }
    for answer, length in zip(result, seconds, strict=True):
        if isinstance(answer, Prediction):
            assert answer.duration_s == pytest.approx(length, abs=1e-3)
            assert len(answer.timeline) == steps_of(round(length * 16_000))
    one = result[39]
    assert isinstance(one, Prediction) and close(one, predictor(paths[39]))
    with pytest.raises(MediaError):
        predictor(paths[3])


def test_inputs_are_drawn_as_they_are_needed(predictor: Predictor, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", sound(seconds=0.3))
    drawn = 0

    def inputs() -> Iterator[Path]:
        nonlocal drawn
        while True:  # without end: it can't be listed
            drawn += 1
            yield path

    results = predictor.classify(inputs())
    for count in range(1, 101):
        result = next(results)
        assert isinstance(result, Prediction)
        assert drawn - count <= 48  # two batches ahead, and the one that is given
    results.close()  # type: ignore[attr-defined]


# -- streams by name -----------------------------------------------------------------------------


def test_a_stream_that_the_model_lacks_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", sound())
    for modality in ("video", "both"):
        with pytest.raises(ConfigError, match=f"Bad modality '{modality}'.*no video branch"):
            predictor(path, modality=modality)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match=r"Bad modality 'audoi'.*did you mean 'audio'"):
        list(predictor.classify([path], modality="audoi"))  # type: ignore[arg-type]
    assert predictor(path, modality="audio").label is not None


def test_a_stream_that_the_clip_lacks_is_its_own_failure(
    predictor: Predictor, tmp_path: Path
) -> None:
    mute = write_video(tmp_path / "mute.mp4", face_frames("happy", count=8))
    loud = write_wav(tmp_path / "a.wav", sound())
    first, second = predictor.classify([mute, loud], modality="audio")
    assert isinstance(first, Failure) and isinstance(first.error, SignalError)
    assert "no audio stream" in str(first.error)
    assert isinstance(second, Prediction) and second.label is not None
    with pytest.raises(AvserError):
        predictor(mute, modality="audio")


# -- long ----------------------------------------------------------------------------------------


def bursts(seconds: float) -> Wave:
    """Noise that comes and goes, louder and louder."""
    rng = np.random.default_rng(0)
    count = int(seconds * 16_000)
    level = np.repeat(rng.uniform(0, 0.5, 1 + count // 6_000), 6_000)[:count]
    return (rng.normal(0, 0.2, count) * level).astype(np.float32)


def test_a_long_file_gives_what_its_samples_give(predictor: Predictor, tmp_path: Path) -> None:
    wave = bursts(131.7)
    path = write_wav(tmp_path / "long.wav", wave)
    short = write_wav(tmp_path / "short.wav", sound())
    long, brief = predictor.classify([path, short])
    assert isinstance(long, Prediction) and isinstance(brief, Prediction)
    whole = predictor(np.round(wave * 32767) / np.float32(32768), sample_rate=16_000)
    assert close(long, whole, within=1e-3)
    assert long.duration_s == pytest.approx(131.7, abs=1e-3)
    assert len(long.timeline) == steps_of(len(wave)) == 258
    starts = [e.start_s for e in long.timeline]
    assert starts == pytest.approx([i * STEP_S for i in range(258)])
    judged = [e.probabilities for e in long.timeline if e.probabilities is not None]
    mean = {name: np.mean([p[name] for p in judged]) for name in judged[0]}
    assert long.probabilities == pytest.approx(mean, abs=1e-5)
    assert brief.duration_s == pytest.approx(1.3, abs=1e-3)


def test_sound_late_in_a_silent_file_is_found(predictor: Predictor) -> None:
    wave = np.zeros(150 * 16_000, np.float32)
    wave[-40_000:] = bursts(2.5)
    answer = predictor(wave, sample_rate=16_000)
    assert answer.label is not None and len(answer.timeline) == steps_of(len(wave))
    assert all(e.label is None for e in answer.timeline[:280])
    silent = predictor(np.zeros_like(wave), sample_rate=16_000)
    assert silent.reason == "no_signal" and silent.duration_s == 150


# -- from a bundle -------------------------------------------------------------------------------


def test_a_predictor_is_loaded_from_a_bundle(predictor: Predictor, tmp_path: Path) -> None:
    folder = bundle.save(
        predictor.net, tmp_path / "m", spec=tiny_spec(), name="tiny.fake", provenance=Provenance()
    )
    loaded = Predictor.from_pretrained(folder, device="cpu")
    assert loaded.name == "tiny.fake"
    wave = sound()
    assert close(loaded(wave, sample_rate=16_000), predictor(wave, sample_rate=16_000), within=0)
