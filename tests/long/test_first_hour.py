"""The first hour with one's own recordings, through the real command line."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from avser.testing.corpora.folders import fake_folders
from avser.testing.nets import tiny_spec

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four people's recordings, tables of them, and a tiny model."""
    place = tmp_path_factory.mktemp("first")
    root = fake_folders(place / "own", speakers=4, per_emotion=2)
    files = sorted(p for p in root.rglob("*.wav") if not p.name.startswith("."))
    rows = [(str(p.relative_to(root)), p.parent.name, p.parent.parent.name) for p in files]
    german = ["Path;Emotion;Speaker", *(";".join((r[0].replace("/", "\\"), *r[1:])) for r in rows)]
    (root / "german.csv").write_bytes("".join(f"{x}\r\n" for x in german).encode("cp1252"))
    (root / "plain.csv").write_text(
        "path,emotion,speaker\n" + "".join(f"{','.join(r)}\n" for r in rows)
    )
    (root / "nobody.csv").write_text(
        "path,emotion\n" + "".join(f"{','.join(r[:2])}\n" for r in rows)
    )
    trainer = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}
    (place / "tiny.yaml").write_text(yaml.safe_dump({"model": tiny_spec(), "trainer": trainer}))
    return place


def avser(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avser", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("source", "root", "more", "split"),
    [
        ("folders", "own", (), "speaker_kfold, fold 1 of 4"),
        ("manifest", "own/german.csv", (), "speaker_kfold, fold 1 of 4"),
        ("manifest", "own/plain.csv", (), "speaker_kfold, fold 1 of 4"),
        ("manifest", "own/nobody.csv", ("--data.split", "random"), "RANDOM SPLIT"),
    ],
)
def test_from_recordings_to_a_label(
    source: str, root: str, more: tuple[str, ...], split: str, place: Path
) -> None:
    data = ("--corpus", source, "--root", root, *more)
    if more:
        data += ("--data.split.validation=0.2", "--data.split.test=0.2")
        refused = avser(place, "audit", *data[:4])
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1
        assert "--data.split random" in refused.stderr
    audit = avser(place, "audit", *data)
    assert audit.returncode == 0 and split in audit.stdout
    run = f"run-{source}-{Path(root).stem}"
    fit = avser(place, "fit", *data, "-c", "tiny.yaml", "--out", run)
    assert fit.returncode == 0, fit.stderr
    assert split in fit.stdout
    assert split in (place / run / "report.html").read_text()
    clip = avser(place, "classify", "--model", run, "own/anna/Calm/0.wav")
    assert clip.returncode == 0 and clip.stdout.startswith("own/anna/Calm/0.wav: ")
