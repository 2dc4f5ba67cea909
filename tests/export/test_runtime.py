"""The one file that a deployer copies."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avser.bundle import serialization as bundle
from avser.export import runtime
from avser.export.onnx_file import AudioGraph, bursts
from avser.export.runtime import OnnxClassifier
from avser.inference.predictor import Predictor
from avser.testing.nets import tiny_bundle

STEP = 8192

# stands in for an interpreter that has numpy and onnxruntime alone
ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "avser", "scipy", "onnx", "yaml"}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import numpy as np
from runtime import OnnxClassifier
classify = OnnxClassifier(sys.argv[1])
answer = classify(np.load(sys.argv[2]))
print(answer.label, len(answer.timeline))
"""

#: Two runtimes add up a minute of float32 samples in different orders.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    return bundle.load(tiny_bundle(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def file(model: bundle.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return AudioGraph(model).save(tmp_path_factory.mktemp("onnx") / "voice.onnx")


@pytest.fixture(scope="module")
def classifier(file: Path) -> OnnxClassifier:
    return OnnxClassifier(file)


def voice(seconds: float) -> NDArray[np.float32]:
    wave: NDArray[np.float32] = bursts(1, seconds)[0][0]
    return wave


@pytest.mark.parametrize("seconds", [0.3, 3.3, 61.0, 100.0])
def test_says_what_the_predictor_says(
    model: bundle.Bundle, classifier: OnnxClassifier, seconds: float
) -> None:
    wave = voice(seconds)
    wave[: int(0.2 * 16000)] = 0
    message = Predictor(model.net, device="cpu")(wave, sample_rate=16000)
    answer = classifier(wave)
    assert answer.label == message.label and answer.probabilities is not None
    assert message.probabilities is not None
    assert answer.probabilities == pytest.approx(dict(message.probabilities), abs=TOLERANCE)
    assert answer.duration_s == pytest.approx(seconds)
    assert len(answer.timeline) == len(message.timeline)
    for step, entry in zip(answer.timeline, message.timeline, strict=True):
        assert (step.start_s, step.end_s) == pytest.approx((entry.start_s, entry.end_s))
        assert (step.probabilities is None) == (entry.probabilities is None)
        if step.probabilities is not None and entry.probabilities is not None:
            assert step.probabilities == pytest.approx(dict(entry.probabilities), abs=TOLERANCE)


def test_what_lies_below_16_bits_changes_nothing(
    model: bundle.Bundle, classifier: OnnxClassifier
) -> None:
    """Resamplers differ there, and the training data has no more bits."""
    wave = np.rint(voice(3.3) * 32768) / 32768
    noise = np.random.default_rng(0).uniform(-0.4, 0.4, len(wave)) / 32768
    wanted = classifier(wave)
    assert classifier(wave + noise) == wanted and wanted.probabilities is not None
    stream, noisy = classifier.stream(), classifier.stream()
    assert noisy.push(wave + noise) == stream.push(wave)


def test_silence_has_no_label(classifier: OnnxClassifier) -> None:
    for wave in (np.zeros(20_000), np.zeros(0), 1e-5 * np.ones(9000)):
        answer = classifier(wave)
        assert answer.label is None and answer.probabilities is None and not answer.timeline


def test_a_stream_hears_the_last_steps_and_keeps_no_more(classifier: OnnxClassifier) -> None:
    wave = np.concatenate([np.zeros(STEP, dtype=np.float32), voice(6.0)])
    stream = classifier.stream(window_steps=3)
    steps = [s for cut in np.array_split(wave, 41) for s in stream.push(cut)]
    assert [s.start_s for s in steps] == [i * STEP / 16000 for i in range(len(wave) // STEP)]
    assert steps[0].label is None and steps[0].silent and not steps[1].silent
    (last,) = stream.finish()
    assert last.end_s == pytest.approx(len(wave) / 16000)
    end = wave[(len(wave) // STEP - 2) * STEP :]
    whole = classifier(end)
    assert last.so_far == pytest.approx(whole.probabilities)
    assert last.probabilities == pytest.approx(whole.timeline[-1].probabilities)
    assert stream.probabilities == last.so_far and stream.finish() == []
    assert sum(len(piece) for piece in stream._predict._last) <= 3 * STEP
    with pytest.raises(ValueError, match="Bad window of 0 steps"):
        classifier.stream(window_steps=0)


def test_levels_are_those_of_sines(classifier: OnnxClassifier) -> None:
    loud = np.sin(2 * np.pi * 1000 * np.arange(2 * STEP) / 16000).astype(np.float32)
    levels = [s.level_dbfs for s in classifier(np.concatenate([loud, loud / 10])).timeline]
    assert levels == pytest.approx([-3.0, -3.0, -23.0, -23.0])


def test_the_file_says_what_it_is(classifier: OnnxClassifier) -> None:
    assert classifier.labels == ("happy", "sad", "angry")
    assert classifier.metadata["model"] == "tiny" and classifier.metadata["weights"] == "float32"
    assert "state of mind" in classifier.metadata["not_for"]


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (np.zeros((2, 9000)), r"shape \[2, 9000\]"),
        (np.zeros(9000, dtype=np.int16), "type int16"),
        (np.full(9000, np.nan), "not finite"),
    ],
)
def test_bad_samples_are_refused(
    classifier: OnnxClassifier, samples: NDArray[np.float32], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        classifier(samples)
    with pytest.raises(ValueError, match=sentence):
        classifier.stream().push(samples)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        OnnxClassifier(tmp_path / "none.onnx")
    other = tmp_path / "other.onnx"
    other.write_bytes(b"no model")
    with pytest.raises(ValueError, match="export it anew"):
        OnnxClassifier(other)


def test_needs_numpy_and_onnxruntime_alone(file: Path, tmp_path: Path) -> None:
    (tmp_path / "runtime.py").write_bytes(Path(runtime.__file__).read_bytes())
    wave = voice(2.0)
    np.save(tmp_path / "wave.npy", wave)
    words = [sys.executable, "-c", ALONE, str(file), str(tmp_path / "wave.npy")]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [OnnxClassifier(file)(wave).label, "4"]
