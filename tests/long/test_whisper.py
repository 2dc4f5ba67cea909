"""Whisper's encoder with its released weights, and as exported files."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from shared_data import MODELS
from torch import Tensor

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Bundle
from avser.cli import main
from avser.export import int8
from avser.export.onnx_file import MOST_APART, AudioGraph, differences
from avser.export.pt2 import save_pt2
from avser.export.runtime import OnnxClassifier
from avser.media.samples import rounded as to_16_bits
from avser.models.baselines.head import BaselineHead
from avser.models.baselines.linear import Softmax
from avser.models.encoders import whisper
from avser.models.encoders.whisper import WhisperEncoder, WhisperNetwork, load_whisper
from avser.models.heads import AttentiveHead, LinearHead
from avser.models.net import EmotionNet
from avser.testing.media import voice, write_wav
from avser.types import audio_batch

pytestmark = pytest.mark.long


def tiny_net() -> EmotionNet:
    torch.manual_seed(0)
    encoder = WhisperEncoder(size="mini", join=(1, 2))
    return EmotionNet(audio=encoder, head=AttentiveHead(hidden=8), emotions=("a", "b")).eval()


def test_onnx_files_are_the_network_at_any_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "_DYNAMIC", 256)  # of the smallest encoder, too
    net = tiny_net()
    graph = AudioGraph(Bundle(name="tiny", folder=Path(), net=net, config={}))
    lengths = tuple((size, s) for s in (0.3, 3.3, 20.0, 61.0) for size in (1, 3))
    whole = differences(net.audio_branch(), graph.save(tmp_path / "float.onnx"), sizes=lengths)
    assert max(max(d.clip, d.step) for d in whole) <= MOST_APART
    path = graph.save(tmp_path / "int8.onnx", int8=True)
    small = differences(net.audio_branch(), path, sizes=lengths)
    assert 0 < max(d.clip for d in small) < 0.02
    products = [node.op_type for node in onnx.load(path).graph.node].count("MatMulInteger")
    assert products >= 2 + 2 * 6  # convolutions, and of each layer all with weights


def test_a_pt2_is_the_network_at_any_length(tmp_path: Path) -> None:
    net = tiny_net()
    path = save_pt2(Bundle(name="tiny", folder=Path(), net=net, config={}), tmp_path / "w.pt2")
    program = torch.export.load(path).module()
    branch = net.audio_branch()
    for clips, steps in ((1, 1), (3, 2), (2, 9), (1, 90)):
        wave = 0.1 * torch.randn(clips, steps, 8192)
        lengths = torch.arange(clips) * 100 + steps * 8192 - 500
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch: a scalar of an exported graph
            result = program(wave, lengths)
            inside = torch.arange(steps * 8192) < lengths[:, None]
            expected = branch(wave.flatten(1) * inside, lengths)
        for one, other in zip(result, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "size"), [("tiny.en", "tiny"), ("base", "base")])
def test_released_weights_give_what_transformers_gives(name: str, size: str) -> None:
    folder = MODELS / f"whisper-{name}-encoder"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    transformers = pytest.importorskip("transformers", reason="needs avser[ssl]")
    from safetensors.torch import load_file
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Theirs

    frames = 372
    config = transformers.WhisperConfig.from_pretrained(folder)
    config.max_source_positions = frames // 2
    state = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    state["embed_positions.weight"] = state["embed_positions.weight"][: frames // 2]
    theirs: Any = Theirs(config)
    theirs.eval()
    theirs.load_state_dict(state)
    network = WhisperNetwork(
        width=config.d_model,
        heads=config.encoder_attention_heads,
        layers=config.encoder_layers,
    )
    load_whisper(network, str(folder), size=size)
    mel = torch.randn(1, 80, frames)
    kept: list[Tensor] = []
    for layer in theirs.layers:
        layer.register_forward_hook(
            lambda _, __, out: kept.append(out[0] if isinstance(out, tuple) else out)
        )
    with torch.no_grad():
        theirs(mel)
        states, _ = network.eval()(mel, torch.ones(1, frames, dtype=torch.bool), frozen=9)
    for ours, other in zip(states[1:], kept, strict=True):
        # the file holds its sinusoidal positions in half precision; ours are computed
        assert float((ours - other).norm() / other.norm()) < 1e-3


def test_a_bundle_of_three_layers_is_small_and_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = MODELS / "whisper-tiny.en-encoder"
    if not weights.is_dir():
        pytest.skip(f"needs {weights}")
    copied = shutil.copytree(weights, tmp_path / "weights")
    settings: dict[str, Any] = {"size": "tiny", "layers": 3, "pretrained": str(copied)}
    encoder = WhisperEncoder(**settings)
    net = EmotionNet(audio=encoder, head=LinearHead(), emotions=("happy", "sad")).eval()
    spec = {
        "audio": {
            "class_path": "avser.models.encoders.whisper.WhisperEncoder",
            "init_args": settings,
        },
        "head": {"class_path": "avser.models.heads.LinearHead"},
    }
    folder = bundle.save(
        net, tmp_path / "bundle", spec=spec, name="w", provenance=bundle.Provenance()
    )
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 14_000_000
    shutil.rmtree(copied)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(whisper, "_weights_file", lambda _: pytest.fail("weights were sought"))
    samples = voice("happy", seconds=2.0)
    write_wav(elsewhere / "clip.wav", samples)
    assert main(["classify", "clip.wav", "--model", str(folder), "--json", "-"]) == 0
    probabilities = json.loads(capsys.readouterr().out)[0]["probabilities"]
    with torch.no_grad():
        expected = net.audio_branch()(
            torch.from_numpy(samples)[None], torch.tensor([len(samples)])
        )[0][0]
    assert list(probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-3)


@torch.inference_mode()
def test_8_bit_files_predict_the_labels_of_float_ones(tmp_path: Path) -> None:
    weights = MODELS / "whisper-tiny.en-encoder"
    if not weights.is_dir():
        pytest.skip(f"needs {weights}")
    emotions = ("neutral", "happy", "sad", "angry")
    encoder = WhisperEncoder(size="tiny", layers=3, pretrained=str(weights))
    head = BaselineHead(baseline=Softmax(cost=0.01))
    net = EmotionNet(audio=encoder, head=head, emotions=emotions).eval()

    def clips(seed: int) -> list[tuple[int, Tensor]]:
        return [
            (label, torch.from_numpy(voice(emotion, speaker=speaker, seconds=1.5, seed=seed)))
            for label, emotion in enumerate(emotions)
            for speaker in "abcdef"
        ]

    train = clips(0)
    waves, labels = torch.stack([w for _, w in train]), torch.tensor([n for n, _ in train])
    lengths = torch.full((len(train),), waves.shape[1])
    encoder.fit_statistics([audio_batch(waves, lengths)])
    fitted = net.heads["audio"]
    assert isinstance(fitted, BaselineHead)
    vectors, rows = fitted.vectors(*encoder(waves, lengths))
    fitted.baseline.fit(vectors, labels[rows])
    graph = AudioGraph(Bundle(name="tiny", folder=Path(), net=net, config={}))
    plain = graph.save(tmp_path / "float.onnx")
    small = graph.save(tmp_path / "int8.onnx", int8=True)
    assert small.stat().st_size < 0.27 * plain.stat().st_size
    whole, rounded = OnnxClassifier(plain), OnnxClassifier(small)
    apart = []
    for label, wave in clips(1):
        stored = torch.from_numpy(to_16_bits(wave.numpy()))  # to 16 bits, as the runtime does
        expected = net.audio_branch()(stored[None], torch.tensor([len(wave)]))[0][0]
        one, other = whole(wave.numpy()), rounded(wave.numpy())
        assert one.probabilities is not None and other.probabilities is not None
        assert list(one.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-4)
        apart.append(max(abs(p - other.probabilities[n]) for n, p in one.probabilities.items()))
        second, first = sorted(one.probabilities.values())[-2:]
        if first - second > 0.25:  # elsewhere rounding may decide
            assert one.label == other.label == emotions[label]
    assert max(apart) < 0.15 and float(np.mean(apart)) < 0.03
