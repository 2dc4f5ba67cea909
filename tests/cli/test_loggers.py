"""Loggers of Lightning by a short name, beside those of every run."""

from pathlib import Path

import pytest
import yaml

from avser.cli import main
from avser.cli.class_names import expand_classes
from avser.cli.config import logger_folder
from avser.testing.corpora.folders import fake_folders
from avser.testing.nets import tiny_spec


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("wandb", "WandbLogger"),
        ("WandbLogger", "WandbLogger"),
        ("MLFlowLogger", "MLFlowLogger"),
        ("mlflow", "MLFlowLogger"),
        ("tensorboard", "TensorBoardLogger"),
        ("csvlogger", "CSVLogger"),
    ],
)
def test_short_names_are_classes(word: str, name: str) -> None:
    path = f"pytorch_lightning.loggers.{name}"
    assert expand_classes(["--trainer.logger", word]) == ["--trainer.logger", path]
    assert expand_classes([f"--trainer.logger={word}"]) == [f"--trainer.logger={path}"]
    words = logger_folder(["--trainer.logger", path], Path("run/logs"))
    assert words == ["--trainer.logger.init_args.save_dir=run/logs"]
    assert (
        logger_folder([f"--trainer.logger={path}", "--trainer.logger.save_dir=x"], Path("r")) == []
    )
    assert logger_folder(["--trainer.logger=false"], Path("run")) == []


def test_a_logger_writes_beside_those_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fake_folders(tmp_path / "mine", speakers=3, per_emotion=1)
    config = tmp_path / "tiny.yaml"
    trainer = {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 1}
    config.write_text(yaml.safe_dump({"model": tiny_spec(), "trainer": trainer}))
    out = tmp_path / "run"
    words = ["fit", "--corpus", "folders", "--root", str(root), "-c", str(config), "--no-test"]
    assert main([*words, "--out", str(out), "--trainer.logger", "csv"]) == 0
    own = out / "logs" / "start1" / "metrics.csv"
    (chosen,) = (out / "logs" / "lightning_logs").rglob("metrics.csv")
    assert own.is_file() and "validation/uar" in chosen.read_text()
    assert main([*words, "--out", str(tmp_path / "other"), "--trainer.logger", "wandb"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("avser fit: Bad configuration") and "pip install" in error
