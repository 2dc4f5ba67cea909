"""Labels while somebody speaks."""

import io
import json
import re
import statistics
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_encoders import STREAMS

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.errors import ConfigError, MediaError, SignalError
from avser.export.onnx_file import bursts
from avser.export.runtime import OnnxStep, OnnxStream, Samples
from avser.inference.live import (
    BLOCK,
    AudioBlock,
    LivePrediction,
    format_step,
    from_file,
    from_microphone,
    from_pcm,
    listen,
)
from avser.inference.predictor import Predictor
from avser.inference.streaming import StreamingPredictor, is_causal
from avser.media.reader import read_audio
from avser.models.encoders.whisper import WhisperEncoder
from avser.models.heads import AttentiveHead, LstmHead
from avser.models.net import AudioBranch, EmotionNet
from avser.testing.media import write_video, write_wav
from avser.testing.nets import tiny_bundle, tiny_net

STEP = 8192
NAMES = ("happy", "sad", "angry")


def causal_branch(head: Any) -> AudioBranch:
    torch.manual_seed(0)
    return EmotionNet(audio=STREAMS["crnn"](), head=head, emotions=NAMES).eval().audio_branch()


def blocks(wave: Samples) -> Iterator[AudioBlock]:
    for start in range(0, len(wave), BLOCK):
        yield AudioBlock(wave[start : start + BLOCK], time.monotonic())


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    write_wav(path, bursts(1, 2.8)[0][0])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("model") / "tiny")


# -- streams of a network ------------------------------------------------------------------------


@pytest.mark.parametrize("head", [AttentiveHead(hidden=8), LstmHead(hidden=8)])
def test_a_causal_network_uses_all_sound_so_far(head: Any) -> None:
    branch = causal_branch(head)
    assert is_causal(branch)
    wave = bursts(1, 4.0)[0][0]
    rows = list(listen(StreamingPredictor(branch, NAMES), blocks(wave)))
    with torch.inference_mode():
        clip, steps, _ = branch(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
    assert len(rows) == steps.shape[1] and rows[-1].step.end_s == pytest.approx(4.0)
    assert list((rows[-1].step.so_far or {}).values()) == pytest.approx(clip[0].tolist(), abs=1e-5)
    for expected, row in zip(steps[0].tolist(), rows, strict=True):
        assert list((row.step.probabilities or {}).values()) == pytest.approx(expected, abs=1e-5)


def whisper_branch() -> AudioBranch:
    torch.manual_seed(0)
    encoder = WhisperEncoder(size="mini", join=(1, 2))
    return EmotionNet(audio=encoder, head=AttentiveHead(hidden=8), emotions=NAMES).audio_branch()


@pytest.mark.parametrize("kind", ["crnn", "whisper"])
def test_any_other_is_run_on_the_window_as_predictor_runs_on_a_clip(kind: str) -> None:
    torch.manual_seed(0)
    branch = (tiny_net(NAMES).audio_branch() if kind == "crnn" else whisper_branch()).eval()
    net = EmotionNet(audio=branch.encoder, head=AttentiveHead(hidden=8), emotions=NAMES)
    net.heads["audio"] = branch.head
    wave = bursts(1, 4.0)[0][0]
    stream = StreamingPredictor(branch, NAMES, window_s=1.1)
    assert not stream.causal and stream.window_steps == 2 and stream.cost_ms > 0
    rows = list(listen(stream, blocks(wave)))
    assert len(rows) == 8
    predictor = Predictor(net, device="cpu")
    for index, row in enumerate(rows):
        window = wave[max(0, index - 1) * STEP : (index + 1) * STEP]
        expected = predictor(window, sample_rate=16_000).probabilities
        assert row.step.so_far == pytest.approx(expected, abs=1e-5)
    assert stream.probabilities == rows[-1].step.so_far
    bidirectional = causal_branch(LstmHead(hidden=8, bidirectional=True))
    assert not is_causal(bidirectional)
    with pytest.raises(ConfigError, match="Bad window 0 s"):
        StreamingPredictor(branch, NAMES, window_s=0)


def test_a_stream_is_opened_by_a_model_s_name(folder: Path) -> None:
    stream = StreamingPredictor.from_pretrained(folder)
    assert stream.window_steps == 6  # 3.1 s
    wave = bursts(1, 2.8)[0][0]
    steps = [*stream.push(wave), *stream.finish()]
    expected = Predictor.from_pretrained(folder, device="cpu")(wave, sample_rate=16_000)
    assert len(steps) == 6 and stream.probabilities == pytest.approx(expected.probabilities)


# -- sources -------------------------------------------------------------------------------------


def test_raw_samples_may_come_in_odd_pieces() -> None:
    samples = np.arange(-1000, 1000, dtype="<i2")

    class Pipe(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return self.read(77)

    result = [s.samples for s in from_pcm(Pipe(samples.tobytes()))]
    assert len(result) == -(-4000 // 77)
    np.testing.assert_array_equal(np.concatenate(result) * 32768, samples)


@pytest.mark.long  # a busy machine is late
def test_a_file_is_played_in_real_time_and_answers_come_at_once(clip: Path) -> None:
    stream = StreamingPredictor(causal_branch(AttentiveHead(hidden=8)), NAMES)
    begun = time.monotonic()
    rows = list(listen(stream, from_file(clip)))
    assert 2.7 < time.monotonic() - begun < 4.0
    assert [round(row.step.end_s, 3) for row in rows] == [0.512, 1.024, 1.536, 2.048, 2.56, 2.8]
    assert 0 < statistics.median(row.latency_ms for row in rows) <= 50


def test_a_file_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    write_video(path, np.zeros((4, 48, 64, 3), dtype=np.uint8), fps=10)
    with pytest.raises(SignalError, match="has no sound"):
        list(from_file(path))


class Microphone:
    """Stands in for sounddevice: three blocks, then the device is pulled out."""

    class PortAudioError(Exception):
        pass

    def __init__(self, **settings: Any) -> None:
        assert settings["samplerate"] == 16000 and settings["channels"] == 1
        if settings["device"] == "none":
            raise ValueError("No input device matching 'none'\nmore")
        self.callback = settings["callback"]

    def __enter__(self) -> None:
        for index in range(3):
            self.callback(np.full((BLOCK, 1), index / 10, dtype=np.float32), BLOCK, None, None)

    def __exit__(self, *_: object) -> None:
        pass


def test_a_microphone_gives_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.ModuleType("sounddevice")
    fake.InputStream, fake.PortAudioError = Microphone, Microphone.PortAudioError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr("avser.extras.find_spec", lambda name: name)
    source = from_microphone()
    values = [float(next(source).samples[0]) for _ in range(3)]
    assert values == pytest.approx([0.0, 0.1, 0.2])
    with pytest.raises(MediaError, match=r"Bad microphone 'none': No input device"):
        next(from_microphone("none"))
    monkeypatch.setattr("avser.extras.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'avser\[mic\]'"):
        next(from_microphone())


# -- what is shown -------------------------------------------------------------------------------


def test_a_line_shows_label_bars_level_and_latency() -> None:
    shares = {"happy": 0.9, "sad": 0.1}
    step = OnnxStep(0.0, 0.512, "happy", shares, shares, -30.0, False)
    shown = format_step(LivePrediction(step, 7.4))
    assert shown.split() == ["0.5", "s", "happy", "90.0", "%", "happ", "▇", "sad", "▁",
                             "▕█████", "▏", "-30", "dBFS", "7", "ms"]  # fmt: skip
    silence = OnnxStep(0.0, 0.512, None, None, None, -120.0, True)
    assert "(silence)" in format_step(LivePrediction(silence, 1.0)) and "█" not in format_step(
        LivePrediction(silence, 1.0)
    )
    assert len(format_step(LivePrediction(step, 7.4), width=30)) == 30
    plain = format_step(LivePrediction(step, 7.4), ascii_only=True)
    assert plain.isascii() and "happ 9  sad 1" in plain and "|#####     |" in plain


def test_json_has_a_line_for_each_step(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = bursts(1, 1.2)[0][0]
    raw = (wave * 32767).clip(-32768, 32767).astype("<i2").tobytes()
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(raw)))
    assert main(["listen", "-", "--json", "--model", str(folder)]) == 0
    message = capsys.readouterr()
    rows = [json.loads(row) for row in message.out.splitlines()]
    assert [r["end_s"] for r in rows] == [0.512, 1.024, 1.2]
    assert all(sum(r["probabilities"].values()) == pytest.approx(1, abs=1e-4) for r in rows)
    assert {"label", "so_far", "level_dbfs", "silent", "latency_ms"} <= set(rows[0])
    cost = r"tiny: each label uses the last 3\.1 s, computed anew each step \(\d+\.\d ms a label, "
    assert re.search(cost + r"\d+\.\d % of the time of a step\)", message.err)


def test_the_command_plays_a_file(
    folder: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert main(["listen", str(clip), "--model", str(folder), "--window", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and lines[-1].startswith("Whole file: ")
    assert main(["listen", str(clip), "--model", "none.onnx"]) == 1
    assert "there is no such file" in capsys.readouterr().err


def test_classify_listen_and_an_exported_file_agree(
    folder: Path,
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One decoder, one resampler, one audio branch: float files differ by rounding alone."""
    pytest.importorskip("onnxruntime")
    from avser.export.onnx_file import AudioGraph
    from avser.export.runtime import OnnxClassifier

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    stereo = tmp_path / "stereo.wav"
    wave = read_audio(clip)
    write_wav(stereo, np.repeat(wave, 3), sample_rate=48_000)
    classified = Predictor.from_pretrained(folder, device="cpu")(stereo).probabilities
    assert classified is not None
    label = max(classified, key=lambda name: classified[name])
    assert main(["listen", str(stereo), "--model", str(folder)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Whole file: {label} {100 * classified[label]:.1f} %"
    # a window that holds the whole file predicts the same as it goes
    branch = bundle.load(folder).net.audio_branch()
    stream = StreamingPredictor(branch, NAMES, window_s=10.0)
    *_, end = listen(stream, from_file(stereo, speed=0))
    assert end.step.so_far == pytest.approx(classified, abs=1e-5)
    file = AudioGraph(bundle.load(folder)).save(tmp_path / "voice.onnx")
    exported = OnnxClassifier(file)(read_audio(stereo)).probabilities
    assert exported == pytest.approx(classified, abs=1e-4)
    assert main(["listen", str(stereo), "--model", str(file)]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].startswith(f"Whole file: {label} ")
    assert "voice.onnx: each label uses the last 3.1 s, computed anew each step (" in shown.err


def test_an_hour_leaves_no_trace_in_the_stream() -> None:
    """What a stream holds does not grow; see the long test for the memory of the process."""
    stream = OnnxStream(
        NAMES, lambda piece: (np.ones(3, np.float32) / 3, np.ones(3, np.float32), True)
    )
    piece = np.ones(1000, dtype=np.float32)
    most = 0
    for _ in range(57_600):  # an hour
        stream.push(piece)
        most = max(most, sum(len(w) for w in stream._waiting))
    assert stream._steps == 57_600 * 1000 // STEP and most < STEP + 1000


@pytest.mark.long
def test_an_hour_of_sound_needs_no_more_memory_than_a_minute() -> None:
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("memory is read from /proc, which is not here")
    loaded = bundle.load("audio_small.multi")
    torch.set_num_threads(1)
    voice = read_audio(Path(__file__).parents[2] / "examples" / "sample.mp4")
    for branch, names in (
        (causal_branch(AttentiveHead(hidden=8)), NAMES),
        (loaded.net.audio_branch(), loaded.net.emotions),
    ):
        stream = StreamingPredictor(branch, names)
        sizes = []
        for _ in range(12):
            for _ in range(round(300 * 16000 / len(voice))):
                stream.push(voice)
            (rss,) = (row for row in status.read_text().splitlines() if row.startswith("VmRSS"))
            sizes.append(int(rss.split()[1]) / 1e3)  # MB
        assert sizes[-1] - sizes[0] < 10, sizes
