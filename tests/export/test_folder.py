"""What is exported beside an ONNX file: a folder that stands alone, and torch's own format."""

import json
import re
import subprocess
import sys
import wave
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
from avser.export import runtime
from avser.export.folder import save_folder
from avser.export.onnx_file import AudioGraph, bursts
from avser.export.page_folder import _ORT, save_page
from avser.export.program import STEP_INPUTS
from avser.export.pt2 import save_pt2
from avser.export.runtime import OnnxClassifier
from avser.models.heads import AttentiveHead, LstmHead
from avser.models.net import EmotionNet
from avser.testing.nets import tiny_bundle

LOAD = "import torch, sys; torch.export.load(sys.argv[1]); assert 'avser' not in sys.modules"


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> AudioGraph:
    return AudioGraph(bundle.load(tiny_bundle(tmp_path_factory.mktemp("model") / "tiny")))


def test_the_example_runs_from_the_folder_alone(graph: AudioGraph, tmp_path: Path) -> None:
    path = save_folder(graph, tmp_path / "out")
    folder = path.parent
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "example.py",
        "model.onnx",
        "runtime.py",
    ]
    assert (folder / "runtime.py").read_bytes() == Path(runtime.__file__).read_bytes()
    assert (folder / "README.md").read_text() == graph.bundle.card
    samples = (bursts(1, 2.0)[0][0] * 32767).clip(-32768, 32767).astype(np.int16)
    with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
        file.setparams((1, 2, 16000, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    words = [sys.executable, "-I", "-c", "import sys; sys.path.insert(0, '.'); import runpy; "]
    words[-1] += "sys.argv = ['example.py', '../clip.wav']; runpy.run_path('example.py')"
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    label = OnnxClassifier(path)(samples / np.float32(32768)).label
    lines = done.stdout.splitlines()
    assert lines[0].split()[0] == label and len(lines) == 5
    save_folder(graph, folder)  # again, over itself
    (folder / "mine.txt").write_text("")
    with pytest.raises(ConfigError, match=r"holds mine\.txt"):
        save_folder(graph, folder)


@pytest.mark.parametrize(("encoder", "head"), [("crnn", LstmHead), ("crnn gru", AttentiveHead)])
def test_pt2_is_the_network_at_any_length(encoder: str, head: type, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = EmotionNet(audio=ENCODERS[encoder](), head=head(hidden=8), emotions=("a", "b")).eval()
    made = Bundle(name="tiny", folder=Path(), net=net, config={})
    path = save_pt2(made, tmp_path / "voice.pt2")
    told = {"avser.json": ""}
    program = torch.export.load(path, extra_files=told).module()
    assert json.loads(json.loads(told["avser.json"])["emotions"]) == ["a", "b"]
    branch = net.audio_branch()
    for clips, steps in ((1, 1), (3, 1), (1, 9), (2, 30)):
        wave_, lengths = bursts(clips, steps * 0.512)
        sound, count = torch.from_numpy(wave_), torch.from_numpy(lengths)
        with torch.inference_mode():
            expected = branch(sound, count)
            found = program(sound.unflatten(1, (steps, 8192)), count)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_pt2_needs_nothing_of_avser_and_streams(tmp_path: Path) -> None:
    net = EmotionNet(audio=STREAMS["crnn"](), head=LstmHead(hidden=8), emotions=("a", "b")).eval()
    made = Bundle(name="tiny", folder=Path(), net=net, config={})
    path = save_pt2(made, tmp_path / "voice.pt2", streaming=True)
    subprocess.run([sys.executable, "-c", LOAD, str(path)], check=True)
    program = torch.export.load(path).module()
    branch, state = net.audio_branch(), net.audio_branch().initial_state(1)
    wave_, lengths = bursts(1, 0.512)
    sound, count = torch.from_numpy(wave_), torch.from_numpy(lengths)
    assert len(STEP_INPUTS) == 2
    with torch.inference_mode():
        clip, _, _, after = branch.advance(sound, count, state)
        found = program(sound, count, state)
    torch.testing.assert_close(found[0], clip)
    for one, other in zip(found[3:], after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_command_knows_what_goes_together(
    graph: AudioGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["export", "--model", str(graph.bundle.folder)]
    assert main([*model, "--quick", "--int8", "--out", str(tmp_path / "folder")]) == 0
    assert "weights int8" in capsys.readouterr().out
    assert main([*model, "--out", str(tmp_path / "voice.pt2")]) == 0
    assert capsys.readouterr().out.startswith(str(tmp_path / "voice.pt2"))
    for words, sentence in (
        ([], "give --out"),
        (["--out", "v.pt2", "--int8"], "--int8 is for ONNX files"),
        (["--out", "v.onnx", "--no-such-flag"], "unknown words"),
        (["--out", "v.onnx", "--streaming", "-c", "configs/data/savee.yaml"], "leave it out"),
    ):
        with pytest.raises(SystemExit) as end:
            main([*model, *words])
        assert end.value.code == 2
        assert sentence in capsys.readouterr().err


# -- the page ------------------------------------------------------------------------------------


@pytest.fixture
def ort(tmp_path: Path) -> Path:
    """A folder like npm's package of onnxruntime-web."""
    folder = tmp_path / "ort"
    (folder / "package" / "dist").mkdir(parents=True)
    for name in _ORT:
        (folder / "package" / "dist" / name).write_text(f"// {name}")
    (folder / "package" / "package.json").write_text('{"version": "9.8.7"}')
    return folder


def test_a_page_holds_all_that_it_needs(graph: AudioGraph, ort: Path, tmp_path: Path) -> None:
    page = save_page(graph, tmp_path / "page", ort=ort)
    folder = page.parent
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert {"index.html", "app.js", "model.onnx", "model.json", "ort/LICENSE"} <= names
    assert "9.8.7" in (folder / "ort" / "LICENSE").read_text()
    assert OnnxClassifier(folder / "model.onnx").metadata["weights"] == "int8"
    facts = json.loads((folder / "model.json").read_text())
    assert facts["kind"] == "clip" and facts["emotions"] == ["happy", "sad", "angry"]
    ours = {name: (folder / name).read_text() for name in names if name.endswith(("html", "js"))}
    for name, text in ours.items():
        assert "://" not in text, f"{name} names another host"
        for wanted in re.findall(r"""(?:from |src=|href=|fetch\(|addModule\()"([\w./]+)\"""", text):
            assert (folder / wanted).is_file(), f"{name} wants {wanted}"
    save_page(graph, folder, ort=ort / "package")  # again, over itself


def test_a_stream_s_state_is_told_to_the_page(ort: Path, tmp_path: Path) -> None:
    net = EmotionNet(audio=STREAMS["pooled"](), head=AttentiveHead(hidden=8), emotions=("a", "b"))
    made = Bundle(name="tiny", folder=Path(), net=net.eval(), config={})
    graph = AudioGraph(made, streaming=True)
    folder = save_page(graph, tmp_path / "page", ort=ort).parent
    state = json.loads((folder / "model.json").read_text())["state"]
    expected = net.audio_branch().initial_state(1)
    assert [v["shape"] for v in state.values()] == [list(part.shape) for part in expected]
    for entry, part in zip(state.values(), expected, strict=True):
        assert (part == entry["value"]).all()
    inputs = onnx.load(folder / "model.onnx").graph.input
    assert set(state) < {value.name for value in inputs}


def test_where_onnxruntime_web_can_t_be_had(
    graph: AudioGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"Bad --ort .*: dist/ort\.wasm.* is not in it"):
        save_page(graph, tmp_path / "page", ort=tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match=r"npm is not there .*; give --ort DIR"):
        save_page(graph, tmp_path / "page")
    monkeypatch.setattr("shutil.which", lambda name: "false")
    with pytest.raises(ConfigError, match="npm says 'no message'"):
        save_page(graph, tmp_path / "page")
    assert not (tmp_path / "page" / "model.onnx").exists()
