"""The notebooks run from top to bottom, in this process."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from avser.cli import main
from avser.inference.predictor import Predictor

pytestmark = pytest.mark.long
EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLES = ("sample.mp4", "sample_voice.mp3")


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the cells as Jupyter does, commands in this process; return the notebook's names."""
    (folder / "notebooks").mkdir()
    for sample in SAMPLES:
        shutil.copy(EXAMPLES / sample, folder / sample)
    monkeypatch.chdir(folder / "notebooks")
    monkeypatch.syspath_prepend(folder)  # and so what a notebook adds is taken back
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = json.loads((EXAMPLES / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    for cell in cells["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and text.startswith("!avser "):
            assert main(shlex.split(text.replace("\\\n", " "))[1:]) == 0, text
        elif cell["cell_type"] == "code":
            exec(compile(text, f"{name}.ipynb", "exec"), names)
    return names


def test_classify_and_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("classify_and_plot", tmp_path, monkeypatch)
    assert names["prediction"].label == "happy"
    assert Path("timeline.pdf").read_bytes().startswith(b"%PDF")
    clips, steps = names["clips"], names["steps"]
    assert clips["label"][0] == "happy" and clips["modalities"][1] == "audio"
    assert clips["error"].isna().tolist() == [True, True, False]
    assert list(steps["label"]) == [s.label for s in names["prediction"].timeline]


def test_train_on_your_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("train_on_your_folder", tmp_path, monkeypatch)
    assert names["results"]["n"] == 10 and len(names["results"]["per_speaker"]) == 1
    assert Path("run/figures/confusion.pdf").read_bytes().startswith(b"%PDF")
    assert r"\toprule" in Path("run/tables/classes.tex").read_text()
    assert set(names["prediction"].probabilities) == {"neutral", "calm", "happy", "sad", "angry"}


def test_audio_and_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run("audio_and_video", tmp_path, monkeypatch)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[:3]]
    assert [row[0] for row in rows] == ["audio", "video", "both"]
    assert rows[1][1] == "happy" and rows[2][1] == names["prediction"].label == "happy"
    assert names["explanation"].head == "fused" and names["explanation"].face_maps is not None
    copy = Predictor.from_pretrained(device="cpu")("annotated.mp4", modality="audio")
    assert copy.duration_s == pytest.approx(names["prediction"].duration_s, abs=0.1)


def test_export_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    names = run("export_and_run", tmp_path, monkeypatch)
    assert Path("voice/model.onnx").stat().st_size < 600_000
    predictor = Predictor.from_pretrained("audio_small.multi", device="cpu")
    prediction, answer = predictor("../sample_voice.mp3"), names["answer"]
    assert prediction.label == answer.label and prediction.probabilities is not None
    assert answer.probabilities == pytest.approx(dict(prediction.probabilities), abs=0.02)
    assert len(answer.timeline) == len(prediction.timeline)


def test_federated_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flwr")
    names = run("federated_simulation", tmp_path, monkeypatch)
    assert "fedavg over 3 clients" in " ".join(names["results"]["notes"])
    assert names["results"]["n"] == 10
    assert sum(names["prediction"].probabilities.values()) == pytest.approx(1, abs=1e-5)
