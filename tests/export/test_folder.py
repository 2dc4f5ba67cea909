"""Exports beside an ONNX file: a folder that stands alone, and torch's own format."""

import importlib.util
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
from avser.media.reader import read_audio
from avser.models.heads import AttentiveHead, LstmHead
from avser.models.net import EmotionNet
from avser.testing.media import voice
from avser.testing.nets import tiny_bundle
from avser.visualization.colours import COLOURS

LOAD = "import torch, sys; torch.export.load(sys.argv[1]); assert 'avser' not in sys.modules"


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> AudioGraph:
    return AudioGraph(bundle.load(tiny_bundle(tmp_path_factory.mktemp("model") / "tiny")))


@pytest.fixture(scope="module")
def exported(graph: AudioGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(graph, tmp_path_factory.mktemp("export") / "out").parent


def bare_python(tmp_path: Path) -> dict[str, str]:
    """An environment in which an interpreter finds numpy and onnxruntime, and nothing else."""
    only = tmp_path / "only"
    only.mkdir()
    for name in ("numpy", "numpy.libs", "onnxruntime"):
        spec = importlib.util.find_spec(name)
        places = list(spec.submodule_search_locations or ()) if spec else []
        places = places or [str(Path(np.__file__).parents[1] / name)]
        if Path(places[0]).is_dir():
            (only / name).symlink_to(places[0], target_is_directory=True)
    return {"PYTHONPATH": str(only), "PYTHONDONTWRITEBYTECODE": "1"}


def run_example(folder: Path, clip: Path, *, where: Path) -> subprocess.CompletedProcess[str]:
    """Run it with a bare interpreter: ``-S`` hides site-packages."""
    words = [sys.executable, "-S", str(folder / "example.py"), str(clip)]
    return subprocess.run(
        words, cwd=where, env=bare_python(where), capture_output=True, text=True, check=False
    )


def write_stereo(path: Path, samples: np.ndarray, *, width: int, rate: int) -> Path:
    """Write both channels alike, as integers of so many bytes (one byte is unsigned)."""
    whole = np.round(samples * (2.0 ** (8 * width - 1) - 1)).astype(np.int64)
    whole = whole + 128 if width == 1 else whole
    values = np.repeat(whole, 2)
    raw = values.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setparams((2, width, rate, len(samples), "NONE", ""))
        file.writeframes(raw)
    return path


@pytest.mark.parametrize(
    ("width", "rate"), [(1, 22_050), (2, 16_000), (2, 44_100), (3, 48_000), (4, 48_000)]
)
def test_the_example_reads_each_wav_from_any_folder(
    exported: Path, width: int, rate: int, tmp_path: Path
) -> None:
    samples = voice("angry", seconds=2.0, sample_rate=rate)
    clip = write_stereo(tmp_path / "clip.wav", samples, width=width, rate=rate)
    done = run_example(exported, clip, where=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    prediction = OnnxClassifier(exported / "model.onnx")(read_audio(clip))
    assert prediction.probabilities is not None
    assert lines[0].split()[0] == prediction.label
    shares = {line.split()[0]: float(line.split()[1]) for line in lines[1:4]}
    assert shares == pytest.approx(dict(prediction.probabilities), abs=0.02)
    assert len(lines) == 4 + 4  # steps of 2 s


def test_the_example_refuses_other_files_in_one_sentence(exported: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"ID3 not a wav")
    done = run_example(exported, clip, where=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("Bad clip ") and len(done.stderr.splitlines()) == 1


def test_the_folder_holds_what_its_card_names(graph: AudioGraph, exported: Path) -> None:
    assert (exported / "runtime.py").read_bytes() == Path(runtime.__file__).read_bytes()
    card = (exported / "README.md").read_text()
    assert card == graph.bundle.card
    named = set(re.findall(r"`([\w-]+\.\w+)`", card))
    assert named == {"trained_on.yaml", "digests.txt"}
    assert sorted(p.name for p in exported.iterdir()) == sorted(
        {"README.md", "example.py", "model.onnx", "runtime.py", "wav.py"} | named
    )


def test_only_an_export_is_replaced(graph: AudioGraph, tmp_path: Path) -> None:
    folder = save_folder(graph, tmp_path / "out").parent
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
    recorded = {"avser.json": ""}
    program = torch.export.load(path, extra_files=recorded).module()
    assert json.loads(json.loads(recorded["avser.json"])["emotions"]) == ["a", "b"]
    branch = net.audio_branch()
    for clips, steps in ((1, 1), (3, 1), (1, 9), (2, 30)):
        wave_, lengths = bursts(clips, steps * 0.512)
        sound, count = torch.from_numpy(wave_), torch.from_numpy(lengths)
        with torch.inference_mode():
            expected = branch(sound, count)
            result = program(sound.unflatten(1, (steps, 8192)), count)
        for one, other in zip(result, expected, strict=True):
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
        result = program(sound, count, state)
    torch.testing.assert_close(result[0], clip)
    for one, other in zip(result[3:], after, strict=True):
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


def test_the_suffix_of_out_decides_or_is_refused(
    graph: AudioGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "--model", str(graph.bundle.folder), "--quick", "--out"]
    for name in ("x.tflite", "x.ONNX", "x.pth"):
        assert main([*words, str(tmp_path / name)]) == 1
        sentence = capsys.readouterr().err
        assert "expected .onnx or .pt2, or a folder, whose name ends in /" in sentence
    assert list(tmp_path.iterdir()) == []
    assert main([*words, f"{tmp_path}/audio.ravdess/"]) == 0
    assert (tmp_path / "audio.ravdess" / "model.onnx").is_file()
    assert main([*words, str(tmp_path / "audio.ravdess")]) == 0  # a folder that is there


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
    assert facts["colours"] == [COLOURS[name] for name in facts["emotions"]]
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
    with pytest.raises(ConfigError, match="npm reports 'no message'"):
        save_page(graph, tmp_path / "page")
    assert not (tmp_path / "page" / "model.onnx").exists()
