"""From a folder to a paper's figure and table, and from many files to one table."""

from pathlib import Path

import pytest
import yaml

from avser.cli import main
from avser.emotions import VOCABULARY
from avser.inference.predictor import Predictor
from avser.testing.corpora.folders import fake_folders
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_spec

pytestmark = pytest.mark.long


def test_student_gets_a_figure_and_a_table_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_folders(Path("mine"), speakers=4, per_emotion=2)
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    Path("tiny.yaml").write_text(yaml.safe_dump({"model": tiny_spec(), "trainer": trainer}))
    command = ["train", "mine", "--model", "tiny.yaml", "--epochs", "1", "--out", "run"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("split: speaker_kfold, fold 1 of 4")
    figure = Path("run/figures/confusion.pdf").read_bytes()
    assert figure.startswith(b"%PDF") and b"/FontFile2" in figure, "text stays text"
    table = Path("run/tables/classes.tex").read_text()
    rows = [line.split("&")[0].strip() for line in table.splitlines() if line.endswith(r"\\")]
    assert rows == ["Class", *VOCABULARY[:5]]
    assert r"\usepackage{booktabs}" in table and r"\caption{" in table
    assert main(["classify", "mine/anna/Happy/0.wav", "--model", "run", "--plot", "clip.pdf"]) == 0
    assert Path("clip.pdf").read_bytes().startswith(b"%PDF")


def test_engineer_gets_one_table_of_a_thousand_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The labels are those of single calls, and a broken file costs its own row."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    Path("recordings").mkdir()
    recordings = [
        write_wav(Path(f"recordings/{emotion}.wav"), voice(emotion, seconds=0.6, seed=i))
        for i, emotion in enumerate(VOCABULARY[:6])
    ]
    for i in range(1_000):
        clip = Path(f"clips/{i % 3}/{i:04}.wav")
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.hardlink_to(recordings[i % 6])
    Path("clips/0/broken.wav").write_text("no sound at all")
    command = ["classify", "clips", "--recursive", "--model", "audio_small.multi"]
    assert main([*command, "--parquet", "labels.parquet"]) == 1
    table = parquet.read_table("labels.parquet").to_pylist()
    assert len(table) == 1_001
    by_path = {row["path"]: row for row in table}
    assert "it is no recording" in by_path["clips/0/broken.wav"]["error"]
    assert sum(row["error"] is None for row in table) == 1_000
    single = Predictor.from_pretrained("audio_small.multi", device="cpu")
    for i, recording in enumerate(recordings):
        prediction = single(recording)
        assert prediction.probabilities is not None
        for copy in range(i, 1_000, 6):  # in whatever batch it was
            row = by_path[f"clips/{copy % 3}/{copy:04}.wav"]
            assert row["label"] == prediction.label
            for emotion, share in prediction.probabilities.items():
                assert row[emotion] == pytest.approx(share, abs=1e-4)
