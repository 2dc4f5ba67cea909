"""Sentences about settings that are wrong."""

from pathlib import Path

import pytest
import yaml

from avser.cli import main
from avser.cli.config import Parser, parse
from avser.cli.library_warnings import ignore_library_warnings
from avser.errors import AvserError
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.nets import tiny_spec


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Words of a tiny training on a fake corpus of four speakers."""
    folder = tmp_path_factory.mktemp("config")
    root = fake_ravdess(folder / "ravdess", speakers=4, per_emotion=1)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"model": tiny_spec(), "trainer": {"accelerator": "cpu"}}))
    return [
        "--corpus",
        "ravdess",
        "--root",
        str(root),
        "-c",
        str(path),
        "--data.split.folds=2",
        "--data.emotions=[happy,sad]",
    ]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            ["--data.spllit", "loso"],
            "ClipDataModule has no such setting; did you mean --data.split?",
        ),
        (
            ["--data.corpus.featurs", "x"],
            "Ravdess has no such setting; did you mean --data.corpus.features?",
        ),
        (
            ["--model.head.hiden", "8"],
            "AttentiveHead has no such setting; did you mean --model.head.hidden?",
        ),
        (["--data.split", "lozo"], "; did you mean loso?"),
        (["--model.audio", "Crn"], "; did you mean CrnnEncoder?"),
        (["--trainer.logger", "wandbb"], "; did you mean wandb?"),
        (["--trainr.max_epochs", "3"], "; did you mean --trainer.max_epochs?"),
        (["--data.emotions", "happy,sad"], "'happy,sad' is not legal; expected a list such as [a"),
        (["--data.batch_size", "x"], "data.batch_size: 'x' is not legal; expected a whole number."),
        (["--trainer.max_epochs", "1.5"], "expected a whole number or null."),
        (["--data.video", "facess"], "expected one of none, features, faces."),
        (["--data.batch_size", "0"], "Bad data.batch_size 0: legal is 1 or more."),
        (["--data.workers", "-1"], "Bad data.workers -1: legal is 0 or more."),
        (["--data.crop_s", "0"], "Bad data.crop_s 0: legal is above 0 s"),
        (["--model.lr", "-1"], "Bad model.lr -1: legal is above 0."),
        (["--model.weight_decay", "-1"], "Bad model.weight_decay -1: legal is 0 or more."),
        (["--model.modality_dropout", "2"], "Bad model.modality_dropout 2: legal is 0 to 1."),
        (["--trainer.devices", "0"], "Bad configuration of the trainer: Trainer(devices='0')"),
        (["--trainer.max_time", "x"], "Bad configuration of the trainer: Timer(duration='x')"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_legal(
    words: list[str], wrong: list[str], sentence: str
) -> None:
    _, rest = Parser("fit", "").split([*words, *wrong])
    with ignore_library_warnings(), pytest.raises(AvserError) as refused:
        parse(rest)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            b"model:\n  lrr: 1\n",
            "Bad flag --model.lrr: there is no such setting; did you mean",
        ),
        (b"a: [1\n", "wrong.yaml': it is no YAML: "),
        (b"", "wrong.yaml': it holds no settings; "),
        (b"\xff\xfe\0", "wrong.yaml': it is no YAML: "),
    ],
)
def test_a_wrong_configuration_file_is_named(
    words: list[str], text: bytes, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_bytes(text)
    _, rest = Parser("fit", "").split([*words, "-c", str(path)])
    with ignore_library_warnings(), pytest.raises(AvserError) as refused:
        parse(rest)
    assert sentence in str(refused.value)


@pytest.mark.filterwarnings("ignore:Encountered `nan` values")
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--trainer.max_epochs", "0"], "Bad trainer.max_epochs 0: legal is 1 or more."),
        (["--trainer.max_epochs", "-1"], "Bad trainer.max_epochs -1: legal is 1 or more."),
        (["--trainer.accumulate_grad_batches", "0"], "Bad trainer.accumulate_grad_batches 0: "),
        (
            ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "0"],
            "no epoch was trained and validated",
        ),
        (["--patience", "-1"], "Bad --patience -1: "),
        (["--trainer.devices", "9999"], "Bad trainer.devices 9999: each is a process on a core"),
        (["--trainer.max_epochs", "1", "--model.lr", "1e30"], "it diverged; lower model.lr"),
    ],
)
def test_a_training_that_can_give_no_model_says_why(
    words: list[str],
    wrong: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    quiet = ["--trainer.enable_progress_bar", "false"]
    assert main(["fit", *words, *quiet, *wrong, "--no-test", "--out", str(tmp_path / "run")]) == 1
    assert sentence in capsys.readouterr().err
