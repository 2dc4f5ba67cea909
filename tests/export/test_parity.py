"""One model, one clip, one prediction: in process, as a file, and as a stream."""

from pathlib import Path

import numpy as np
import pytest

from avser.bundle import serialization as bundle
from avser.export.onnx_file import MOST_APART, AudioGraph
from avser.export.runtime import OnnxClassifier
from avser.inference.predictor import Predictor
from avser.testing.media import voice
from avser.testing.nets import tiny_bundle

RATE = 16_000
INT8_APART = 0.02  # 8-bit weights move a probability by less
LONG = np.concatenate([voice("angry", seconds=40.0), voice("sad", seconds=40.0)])
CLIPS: dict[str, np.ndarray] = {
    "short": voice("sad", seconds=0.3),
    "partial last step": voice("happy", seconds=3.3),
    # of 16 bits, as predictors round samples: a file's float and the rounded one differ here
    "quiet": np.rint(voice("happy", seconds=3.3) * 327.68).astype(np.float32) / 32768,
    "offset": voice("angry", seconds=2.0) * np.float32(0.5) + np.float32(0.1),
    "silence before and after": np.pad(voice("angry", seconds=2.0), (RATE, 2 * RATE)),
    "over a minute": LONG,
    "silent": np.zeros(2 * RATE, np.float32),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, OnnxClassifier]:
    graph, where = AudioGraph(bundle.load(folder)), tmp_path_factory.mktemp("onnx")
    return {
        int8: OnnxClassifier(graph.save(where / f"{int8}.onnx", int8=int8))
        for int8 in (False, True)
    }


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("name", CLIPS)
def test_a_file_predicts_what_the_predictor_predicts(
    name: str, int8: bool, predictor: Predictor, files: dict[bool, OnnxClassifier]
) -> None:
    most = INT8_APART if int8 else MOST_APART
    expected = predictor(CLIPS[name], sample_rate=RATE)
    result = files[int8](CLIPS[name])
    assert not isinstance(expected, list)
    if expected.probabilities is None:
        assert result.probabilities is None and result.label is None
        return
    assert result.probabilities == pytest.approx(dict(expected.probabilities), abs=most)
    assert int8 or result.label == expected.label
    assert len(result.timeline) == len(expected.timeline)
    for one, other in zip(result.timeline, expected.timeline, strict=True):
        assert one.start_s == pytest.approx(other.start_s)
        assert (one.probabilities is None) == (other.probabilities is None)
        if one.probabilities is not None and other.probabilities is not None:
            assert one.probabilities == pytest.approx(dict(other.probabilities), abs=most)


def test_a_stream_of_a_window_that_holds_the_clip_predicts_the_clip(
    predictor: Predictor, files: dict[bool, OnnxClassifier]
) -> None:
    """A longer clip differs: a model without state takes the last steps alone into account."""
    samples = CLIPS["partial last step"]
    stream = files[False].stream(window_steps=8)
    for start in range(0, len(samples), 1_000):
        stream.push(samples[start : start + 1_000])
    stream.finish()
    expected = predictor(samples, sample_rate=RATE)
    assert not isinstance(expected, list) and expected.probabilities is not None
    assert stream.probabilities == pytest.approx(dict(expected.probabilities), abs=MOST_APART)
