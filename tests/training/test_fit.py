import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from avser.bundle import serialization as bundle
from avser.cli import main
from avser.evaluation.calibration import calibrate
from avser.evaluation.predictions import Predictions
from avser.testing.corpora.ravdess import fake_ravdess
from avser.training.fit import claimed_run_folder, history
from avser.training.task import EmotionTask

CONFIG = """\
data:
  corpus:
    class_path: avser.datamodules.corpora.ravdess.Ravdess
    init_args: {root: null}
  split:
    class_path: avser.data.splits.HeldOut
    init_args: {test: ['06'], validation: ['05']}
  emotions: [happy, sad, angry]
  batch_size: 8
model:
  audio:
    class_path: avser.models.encoders.crnn.CrnnEncoder
    init_args:
      frontend:
        class_path: avser.models.frontends.logmel.LogMel
        init_args: {bins: 16, window: 512, hop: 512, n_fft: 512}
      normalise: utterance
      channels: [4, 8]
      pools: [[2, 2], [2, 2]]
      width: 16
      hidden: 8
  head:
    class_path: avser.models.heads.AttentiveHead
    init_args: {hidden: 8}
  schedule: constant
  lr: 1.0e-2
  full_epochs: 7
trainer:
  accelerator: cpu
  max_epochs: 1
  enable_progress_bar: false
"""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Command-line words of a tiny configuration on a fake corpus of six speakers."""
    folder = tmp_path_factory.mktemp("fit")
    root = fake_ravdess(folder / "ravdess", speakers=6, per_emotion=2)
    (folder / "tiny.yaml").write_text(CONFIG)
    return ["-c", str(folder / "tiny.yaml"), "--root", str(root)]


@pytest.fixture(scope="module")
def finished(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, to look at and to copy."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVSER_CACHE", str(folder / "cache"))
        assert main(["fit", *words, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that are trained."""
    seen: list[int] = []
    end = EmotionTask.on_train_epoch_end

    def noting(task: EmotionTask) -> None:
        seen.append(task.current_epoch)
        end(task)

    monkeypatch.setattr(EmotionTask, "on_train_epoch_end", noting)
    return seen


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that is refused says, in one line."""
    capsys.readouterr()
    assert main(["fit", *words]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(("avser fit: Bad ", "avser fit: Can't "))
    return lines[0]


# -- a whole training ----------------------------------------------------------------------------


def test_own_logger_is_honoured_and_the_first_score_is_the_first_validated_uar(
    words: list[str], tmp_path: Path
) -> None:
    run, own = tmp_path / "run", tmp_path / "own"
    words = [*words, "--trainer.logger=pytorch_lightning.loggers.CSVLogger",
             f"--trainer.logger.init_args.save_dir={own}", "--trainer.max_epochs=2",
             "--trainer.check_val_every_n_epoch=2", "--out", str(run)]  # fmt: skip
    assert main(["fit", *words]) == 0
    curves = history(run)  # of our own logger, beside the other
    assert curves["validation/score"] == curves["validation/uar"] and len(curves["train/loss"]) == 2
    (path,) = own.rglob("metrics.csv")
    rows = [row for row in csv.DictReader(path.read_text().splitlines()) if row["validation/uar"]]
    assert [float(row["validation/uar"]) for row in rows] == curves["validation/uar"]


def test_a_training_leaves_everything_that_it_promises(finished: Path) -> None:
    assert (finished / "DONE").read_text() == "1 epochs\n"
    results = json.loads((finished / "results.json").read_text())
    assert results["classes"] == ["happy", "sad", "angry"] and results["n"] == 6
    assert results["split"] == "held_out" and results["epochs"] == [1]
    assert results["marks"] == [] and results["model"] == "run"
    page = (finished / "report.html").read_text()
    assert results["split_hash"] in page and "ravdess/06" in page
    predictions = Predictions.load(finished / "predictions" / "test.json")
    assert set(predictions.speakers) == {"ravdess/06"} and not any(predictions.seen)
    assert results["accuracy"]["value"] == pytest.approx(
        float((predictions.predicted == predictions.labels).mean()), abs=1e-6
    )
    curves = history(finished)
    assert {"train/loss", "validation/uar", "validation/score"} <= set(curves)
    assert all(len(values) == 1 for values in curves.values())


def test_without_a_test_only_validation_is_answered(words: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["fit", *words, "--no-test", "--out", str(run)]) == 0
    kept = Predictions.load(run / "predictions" / "validation.json")
    assert set(kept.speakers) == {"ravdess/05"} and len(kept) == 6
    assert [p.name for p in (run / "predictions").iterdir()] == ["validation.json"]
    assert not (run / "results.json").exists() and bundle.load(run).name == "run"


def test_the_bundle_is_the_chosen_epoch_calibrated(finished: Path) -> None:
    loaded = bundle.load(finished)
    assert loaded.provenance.speakers == [f"ravdess/0{n}" for n in (1, 2, 3, 4, 5)]
    assert loaded.provenance.epochs == 1 and loaded.provenance.seed == 0
    assert loaded.provenance.licence == "CC BY-NC-SA 4.0" and "ravdess" in loaded.card
    state = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    own = loaded.net.state_dict()
    assert torch.equal(own["heads.audio.clip.weight"], state["averaged.heads.audio.clip.weight"])
    assert float(loaded.net.temperature("audio")) != 1
    results = json.loads((finished / "results.json").read_text())
    assert loaded.provenance.split_hash == results["split_hash"]


def test_the_run_answers_files(finished: Path, words: list[str]) -> None:
    from avser.inference.predictor import Predictor

    predictor = Predictor.from_pretrained(finished, device="cpu")
    path = next(Path(words[-1]).glob("Actor_06/03-*.wav"))
    predictions = Predictions.load(finished / "predictions" / "test.json")
    path = path.with_name(predictions.clip_ids[0].partition("/")[2] + ".wav")
    answer = predictor(path)
    assert answer.probabilities is not None
    assert list(answer.probabilities.values()) == pytest.approx(
        predictions.probabilities[0].tolist(), abs=2e-3
    )


# -- again ---------------------------------------------------------------------------------------


def test_a_finished_run_is_refused_unless_it_may_be_overwritten(
    finished: Path, words: list[str], tmp_path: Path, epochs: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = shutil.copytree(finished, tmp_path / "run")
    message = refused([*words, "--out", str(run)], capsys)
    assert "--overwrite" in message and str(run) in message and epochs == []
    assert main(["fit", *words, "--out", str(run), "--overwrite", "--seed_everything", "3"]) == 0
    assert epochs == [0] and json.loads((run / "results.json").read_text())["seeds"] == [3]


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_an_unfinished_run_goes_on(
    words: list[str], tmp_path: Path, epochs: list[int], schedule: str
) -> None:
    run = tmp_path / "run"
    command = ["fit", *words, "--out", str(run), f"--model.schedule={schedule}"]
    if schedule == "constant":  # trained to its end, then asked for more
        assert main(command) == 0
        (run / "DONE").unlink()
    else:  # the schedule was made for two epochs, and the machine went down in the second
        assert _until(1, [*command, "--trainer.max_epochs=2"])
    epochs.clear()
    assert main([*command, "--trainer.max_epochs=2"]) == 0
    assert epochs == [1]
    assert (run / "DONE").read_text() == "2 epochs\n"
    assert json.loads((run / "results.json").read_text())["epochs"] == [2]
    assert all(len(values) == 2 for values in history(run).values())


def test_every_epoch_is_kept_to_go_on_from_also_when_none_is_better(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = iter([0.9, 0.5, 0.1])

    def worse(task: EmotionTask) -> None:
        task.log("validation/score", torch.tensor(next(falling)))

    monkeypatch.setattr(EmotionTask, "on_validation_epoch_end", worse)
    run = tmp_path / "run"
    assert main(["fit", *words, "--trainer.max_epochs", "3", "--out", str(run)]) == 0
    result = {
        name: torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["epoch"]
        for name in ("best", "last")
    }
    assert result == {"best": 0, "last": 2}


def test_a_schedule_is_not_stretched_on_the_way(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    longer = [*words, "--out", str(run), "--trainer.max_epochs=3", "--model.schedule=one_cycle"]
    assert _until(1, ["fit", *longer])
    message = refused([*longer, "--trainer.max_epochs=4"], capsys)
    assert "Bad max_epochs 4" in message and "--overwrite" in message


def _until(epoch: int, command: list[str]) -> bool:
    """Run a command that breaks down when an epoch begins."""

    class BreakdownError(Exception):
        pass

    def begin(task: EmotionTask) -> None:
        if task.current_epoch == epoch:
            raise BreakdownError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmotionTask, "on_train_epoch_start", begin)
        with pytest.raises(BreakdownError):
            main(command)
    return True


def test_going_on_gives_what_was_never_stopped(words: list[str], tmp_path: Path) -> None:
    command = ["fit", *words, "--trainer.max_epochs=2", "--model.augment=null"]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    assert _until(1, [*command, "--out", str(tmp_path / "halves")])
    assert main([*command, "--out", str(tmp_path / "halves")]) == 0
    whole, halves = (history(tmp_path / name) for name in ("whole", "halves"))
    # dropout draws anew after a restart; order of batches, weights and averages do not
    assert whole["train/loss"][0] == halves["train/loss"][0]
    assert whole["validation/loss"] == pytest.approx(halves["validation/loss"], rel=0.05)


def test_a_folder_that_is_no_run_is_left_alone(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for extra in ([], ["--overwrite"]):
        message = refused([*words, "--out", str(tmp_path), *extra], capsys)
        assert "not a run" in message
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with claimed_run_folder(tmp_path / "new", overwrite=False) as resume:
        assert resume is None


def test_a_folder_in_which_another_process_trains_is_left_alone(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with claimed_run_folder(tmp_path / "run", overwrite=False):
        (tmp_path / "run" / "config.yaml").touch()
        (tmp_path / "run" / "logs").mkdir()
        for extra in ([], ["--overwrite"]):
            message = refused([*words, "--out", str(tmp_path / "run"), *extra], capsys)
            assert "another process is writing it" in message
        assert (tmp_path / "run" / "logs").is_dir()


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "--model.head=avser.models.heads.AttentivHead",
            "did you mean avser.models.heads.AttentiveHead",
        ),
        (
            "--model.audio=avser.models.encoders.crnn.CrnEncoder",
            "avser.models.encoders.crnn.CrnnEncoder",
        ),
        ("--data.split=avser.data.splits.SpeakrKFold", "SpeakerKFold"),
        ("--data.corpus=avser.datamodules.corpora.ravdess.Ravdes", "ravdess.Ravdess"),
        ("--model.learning_rate=1", "learning_rate"),
        ("--model.lr=fast", "fast"),
        ("--model.ema=2", "Bad ema 2.0"),
        ("--data.emotions=[happy,sda]", "sda"),
        ("--data.split.init_args.test=[36]", "36"),
        ("--model.audio.init_args.frontend.init_args.hop=500", "Bad hop 500"),
    ],
)
def test_a_bad_setting_is_one_sentence(
    words: list[str], tmp_path: Path, setting: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused([*words, setting, "--out", str(tmp_path / "run")], capsys)
    assert message in line
    assert not (tmp_path / "run" / "DONE").exists()


def test_a_missing_configuration_or_corpus_is_one_sentence(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--out", str(tmp_path / "run")]
    message = refused(["-c", "configs/data/ravdes.yaml", *run], capsys)
    assert "did you mean 'configs/data/ravdess.yaml'" in message
    message = refused([*words[:2], "--root", str(tmp_path / "nowhere"), *run], capsys)
    assert str(tmp_path / "nowhere") in message


# -- calibration ---------------------------------------------------------------------------------


def test_calibration_finds_the_temperature_that_the_logits_were_sharpened_by() -> None:
    from avser.testing.nets import tiny_net
    from avser.types import audio_batch

    net = tiny_net()
    wave = 0.2 * torch.randn(400, 8192)
    batch = audio_batch(wave, torch.full((400,), 8192))
    with torch.no_grad():
        head = net.heads["audio"]
        for parameter in head.parameters():
            parameter *= 3  # differing answers
        logits = net(batch)["audio"].logits
        batch["label"] = torch.distributions.Categorical(logits=logits).sample()
        calibrate(net, [batch])
        assert float(net.temperature("audio")) == pytest.approx(1, abs=0.35)
        for name in ("weight", "bias"):
            getattr(head.clip, name).mul_(4)
        calibrate(net, [batch])
    assert float(net.temperature("audio")) == pytest.approx(4, abs=1.4)


def test_a_shortened_recipe_and_its_cost_are_reported(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert "a shortened recipe: 1 of 7 epochs" in results["notes"]
    cost = results["cost"]
    assert cost["bytes"] == next((finished / "bundle").glob("*.safetensors")).stat().st_size
    assert history(finished)["train/seconds"][0] > 0 and cost["clips_per_second"] > 0
    assert "Validation part" in (finished / "report.html").read_text()
