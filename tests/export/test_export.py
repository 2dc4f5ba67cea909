"""Networks as ONNX files."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_encoders import ENCODERS, STREAMS

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Bundle
from avser.cli import main
from avser.errors import ConfigError
from avser.export import onnx_file
from avser.export.int8 import rounded
from avser.export.measure import file_uar
from avser.export.onnx_file import MOST_APART, AudioGraph, bursts, differences, stream_differences
from avser.export.runtime import OnnxClassifier
from avser.extras import require
from avser.models.frontends.logmel import LogMel
from avser.models.heads import AttentiveHead, LstmHead
from avser.models.net import EmotionNet
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.nets import tiny_bundle, tiny_net
from avser.types import audio_batch

SIZES = (*((size, s) for s in (0.3, 3.3, 61.0) for size in (1, 3)), (1, 600.0))
SHORT = tuple((size, s) for s in (0.3, 0.6, 3.3, 9.0) for size in (1, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Bundle:
    loaded = bundle.load(folder)
    loaded.net.temperature("audio").fill_(1.7)
    return loaded


@pytest.fixture(scope="module")
def graph(tiny: Bundle) -> AudioGraph:
    return AudioGraph(tiny)


@pytest.fixture(scope="module")
def file(graph: AudioGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graph.save(tmp_path_factory.mktemp("onnx") / "voice.onnx")


def in_bundle(net: EmotionNet) -> Bundle:
    """A model that has no folder."""
    return Bundle(name="tiny", folder=Path(), net=net.eval(), config={})


def stored(path: Path) -> dict[str, np.ndarray]:
    """Everything that a file holds, by name."""
    graph = onnx.load(path).graph
    result = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            result[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    return result


def test_a_file_is_the_network_at_any_length(tiny: Bundle, file: Path) -> None:
    result = differences(tiny.net.audio_branch(), file, sizes=SIZES)
    assert [(d.clips, d.seconds) for d in result] == list(SIZES)
    assert max(max(d.clip, d.step) for d in result) <= MOST_APART


# recurrences of both kinds, heads of both kinds, hops off the grid
@pytest.mark.parametrize(
    ("encoder", "head"),
    [
        ("crnn gru", LstmHead),
        pytest.param("lstm 20 ms, last", AttentiveHead, marks=pytest.mark.long),
        ("crnn group norm", AttentiveHead),
    ],
)
def test_other_networks_are_exported_too(encoder: str, head: type, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = EmotionNet(audio=ENCODERS[encoder](), head=head(hidden=8), emotions=("a", "b"))
    path = AudioGraph(in_bundle(net)).save(tmp_path / "voice.onnx")
    result = differences(net.audio_branch(), path, sizes=SHORT)
    assert max(max(d.clip, d.step) for d in result) <= MOST_APART


def test_silence_after_a_clip_is_not_needed(file: Path) -> None:
    classifier = OnnxClassifier(file)
    wave, _ = bursts(2, 3.0)
    lengths = np.array([48_000, 30_000])
    dirty = classifier.batch(wave + 0.1, lengths)
    alone = classifier.batch(wave[1:, :30_000] + np.float32(0.1), lengths[1:])
    np.testing.assert_allclose(dirty[0][1], alone[0][0], atol=1e-5)
    steps = alone[2].shape[1]
    np.testing.assert_allclose(dirty[1][1, :steps], alone[1][0], atol=1e-5)
    assert dirty[2][1].tolist() == [True] * steps + [False] * (dirty[2].shape[1] - steps)


def test_of_a_net_with_a_face_the_voice_is_written(tmp_path: Path) -> None:
    net = tiny_net(features=5)
    path = AudioGraph(in_bundle(net)).save(tmp_path / "voice.onnx")
    wave, lengths = bursts(2, 3.0)
    batch = audio_batch(torch.from_numpy(wave), torch.from_numpy(lengths))
    batch["video_features"] = torch.zeros(2, 6, 5)  # no face is seen
    received = net.predict(net(batch))
    assert received.used.tolist() == [1, 1]
    message = OnnxClassifier(path).batch(wave, lengths)
    np.testing.assert_allclose(message[0], received.probabilities.detach(), atol=MOST_APART)
    with pytest.raises(ConfigError, match="no audio encoder"):
        AudioGraph(in_bundle(tiny_net(audio=False, features=5)))


def test_fourier_kernels_are_computed_and_not_stored(tiny: Bundle, file: Path) -> None:
    front = tiny.net.audio_branch().encoder.frontend
    assert isinstance(front, LogMel)
    largest = max(value.size for value in stored(file).values())
    assert front.spectrum.kernel.numel() > 20 * largest
    assert front.filters.numel() > largest


@pytest.mark.parametrize(
    ("encoder", "head"),
    [
        ("crnn gru, two-channel", LstmHead),
        pytest.param("lstm", AttentiveHead, marks=pytest.mark.long),  # half a minute
    ],
)
def test_a_step_graph_fed_step_by_step_is_the_whole_clip(
    encoder: str, head: type, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = EmotionNet(audio=STREAMS[encoder](), head=head(hidden=8), emotions=("a", "b"))
    path = AudioGraph(in_bundle(net), streaming=True).save(tmp_path / "stream.onnx")
    result = stream_differences(net.audio_branch(), path, seconds=(0.3, 0.6, 3.3, 61.0))
    assert max(max(d.clip, d.step) for d in result) <= MOST_APART
    classifier = OnnxClassifier(path)
    assert classifier.streaming
    with pytest.raises(ValueError, match="use stream"):
        classifier.batch(np.zeros((1, 9000), dtype=np.float32), np.array([9000]))


def test_silence_at_the_start_of_a_stream_has_no_label(tmp_path: Path) -> None:
    net = EmotionNet(audio=STREAMS["pooled"](), head=AttentiveHead(hidden=8), emotions=("a", "b"))
    path = AudioGraph(in_bundle(net), streaming=True).save(tmp_path / "stream.onnx")
    stream = OnnxClassifier(path).stream()
    assert [s.label for s in stream.push(np.zeros(3 * 8192))] == [None] * 3
    assert stream.probabilities is None
    (message,) = stream.push(bursts(1, 0.512)[0][0])
    assert message.label in ("a", "b") and not message.silent
    (after,) = stream.push(np.zeros(8192))
    assert after.silent and after.so_far is not None  # what was heard stays
    assert OnnxClassifier(path)(np.zeros(20_000)).label is None


def test_a_network_that_is_not_causal_is_not_streamed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "--model", str(folder), "--streaming", "--out", str(tmp_path / "s.onnx")]
    assert main(words) == 1
    message = capsys.readouterr().err
    assert message.startswith("avser export: Bad --streaming: this CrnnEncoder depends on sound")
    assert len(message.splitlines()) == 1


def test_rounding_is_to_the_nearest_of_255_levels_for_each_output() -> None:
    weights = np.random.default_rng(0).standard_normal((5, 7, 3)).astype(np.float32)
    weights[2] *= 100
    weights[3] = 0
    small, scale = rounded(weights, 0)
    assert small.dtype == np.int8 and scale.shape == (5, 1, 1)
    assert np.abs(small.astype(int)).max(axis=(1, 2)).tolist() == [127, 127, 127, 0, 127]
    assert (np.abs(small * scale - weights) <= scale / 2 + 1e-6).all()


def test_int8_rounds_weights_and_nothing_of_the_front_end(
    tiny: Bundle, graph: AudioGraph, file: Path, tmp_path: Path
) -> None:
    small = graph.save(tmp_path / "int8.onnx", int8=True)
    assert small.stat().st_size < file.stat().st_size
    rounds = [v.size for v in stored(small).values() if v.dtype == np.int8]
    weights = [p.numel() for p in tiny.net.audio_branch().parameters() if p.numel() >= 512]
    assert sorted(rounds) == sorted(weights) and len(weights) == 3
    assert not any(v.dtype == np.int8 for v in stored(file).values())
    result = differences(tiny.net.audio_branch(), small, sizes=SHORT)
    assert 1e-6 < max(d.clip for d in result) < 0.02
    assert OnnxClassifier(small).metadata["weights"] == "int8"


def test_the_command_prints_size_and_parity(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_file, "PARITY", SHORT)
    path = tmp_path / "made" / "voice.onnx"
    assert main(["export", "--model", str(folder), "--out", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: {path.stat().st_size:,} bytes"
    assert "happy, sad, angry; weights float32" in lines[1]
    rows = [line.split() for line in lines[4:]]
    assert [(int(r[0]), float(r[1])) for r in rows] == list(SHORT)
    assert all(float(r[2]) <= MOST_APART for r in rows)


def test_a_file_is_measured_over_the_classes_that_it_shares(file: Path) -> None:
    wave, lengths = bursts(4, 1.0)
    batch = audio_batch(torch.from_numpy(wave), torch.from_numpy(lengths))
    classes = ("angry", "calm", "sad")
    message = OnnxClassifier(file).batch(wave, lengths)[0][:, [2, 1]].argmax(axis=1)  # angry, sad
    batch["label"] = torch.tensor([{0: 0, 1: 2}[int(row)] for row in message])
    assert file_uar(file, [batch], classes) == 1.0
    batch["label"][0] = 1  # calm: unknown to the file, and left out
    assert file_uar(file, [batch], classes) == 1.0
    batch["label"][1] = 2 - batch["label"][1]
    assert file_uar(file, [batch], classes) < 1.0


def test_the_command_measures_float_and_int8(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(fake_ravdess(tmp_path / "data", speakers=("01", "02", "03", "04"), per_emotion=2))
    folds = "--data.split.init_args.folds=2"
    words = ["-c", "configs/data/ravdess.yaml", "--root", data, folds, "--int8", "--quick"]
    path = tmp_path / "voice.onnx"
    assert main(["export", "--model", str(folder), "--out", str(path), *words]) in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    assert "validation part" in lines[2]
    plain, small, lost = (float(line.split()[1]) for line in lines[3:6])
    assert lost == pytest.approx(plain - small, abs=2e-4)
    assert [line.split()[0] for line in lines[3:6]] == ["float", "int8", "lost"]


def test_a_missing_extra_is_named(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(
        ConfigError, match=r"no_such_module is missing; run pip install 'avser\[x\]'"
    ):
        require("x", "sys", "no_such_module")
    monkeypatch.setattr("avser.extras.find_spec", lambda name: None if name == "onnx" else name)
    assert main(["export", "--model", str(folder), "--out", str(tmp_path / "v.onnx")]) == 1
    assert capsys.readouterr().err.strip().endswith("run pip install 'avser[onnx]'.")
