"""``avser fit``: train a model."""

from collections.abc import Sequence
from pathlib import Path

from avser.cli.config import Parser, parse, prepare_data
from avser.cli.library_warnings import ignore_library_warnings

_SETTINGS = """\
frequent settings; any setting of a configuration may follow as a flag:
  --trainer.max_epochs N        epochs
  --model.lr X                  learning rate
  --data.batch_size N           clips of a training batch
  --seed_everything N           seed
  --data.split NAME             auto, speaker_kfold, loso, held_out, given, ...
  --data.split.fold K           fold that is the test part
  --data.emotions [A,B]         classes to keep
  --data.merge {calm: neutral}  classes to merge
  --data.max_missing SHARE      undecodable clips that may be left out
  --trainer.devices N           processes or GPUs
  --trainer.logger NAME         wandb, mlflow, tensorboard, ...: also log there

--print_config shows every setting and its value.
--model.audio.help CLASS explains a class.
example:
  avser fit --corpus folders --root DIR \\
      -c configs/model/audio_crnn.yaml --out RUN/
"""


def run(words: Sequence[str]) -> int:
    """Train, calibrate, release and measure; resumes an unfinished run."""
    parser = Parser(
        "fit",
        "Train a model into a run folder. After an interruption the same command goes on.",
        figures=True,
        epilog=_SETTINGS,
    )
    parser.add_argument("--out", metavar="RUN", type=Path, help="run folder; needed to train")
    parser.add_argument("--no-test", action="store_true", help="do not measure the test part")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished run")
    parser.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="stop after N epochs without a better one (default: never)",
    )
    parser.add_argument("--stress", action="store_true", help="measure degraded test clips too")
    parser.add_argument("--name", help="name of the model (default: the run folder's)")
    own, rest = parser.split(words)
    if any(w.startswith("--print_config") for w in rest):
        with ignore_library_warnings():
            parse(rest)  # prints and exits
    if own.out is None:
        parser.error("--out is missing; name the folder of the run, --out RUN/")
    from avser.bundle.provenance import check_name

    name = check_name(own.name or own.out.resolve().name)
    with ignore_library_warnings():
        from avser.training.fit import claimed_run_folder

        with claimed_run_folder(own.out, overwrite=own.overwrite) as resume:
            _train(
                own.out,
                rest,
                resume=resume,
                patience=own.patience,
                name=name,
                measure=not own.no_test,
                stressed=own.stress,
                figures=own.figures or (),
            )
    return 0


def _train(
    folder: Path,
    words: list[str],
    *,
    resume: Path | None,
    patience: int | None,
    name: str,
    measure: bool,
    stressed: bool,
    figures: Sequence[str],
) -> None:
    import yaml
    from rich.console import Console

    from avser.evaluation.tables import print_table
    from avser.files import atomic_write
    from avser.models.factory import SLOTS
    from avser.training import fit as training

    defaults = {
        "callbacks": training.callbacks(folder, patience=patience),
        "default_root_dir": str(folder),
        "use_distributed_sampler": False,  # our sampler shares batches out by itself
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 10,
        "logger": False,  # ours are added in `fit`: they need no place in the configuration
        "enable_model_summary": False,  # it counts the averaged weights too; the table has the size
    }
    setup = parse(words, trainer_defaults=defaults, logs=folder / "logs")
    config = yaml.safe_load(setup.text)
    with atomic_write(folder / "config.yaml") as file:
        file.write(setup.text)
    trainer = setup.trainer
    prepare_data(setup.data)
    try:
        summary = training.fit(
            trainer,
            setup.task,
            setup.data,
            folder=folder,
            resume=resume,
            spec={slot: config["model"].get(slot) for slot in SLOTS},
            name=name,
            seed=int(config["seed_everything"]),
            config_text=setup.text,
            measure=measure,
            stressed=stressed,
            figures=figures,
        )
    except SystemExit as error:  # what Lightning makes of Ctrl-C, and of SIGTERM
        raise _interruption(error) from error
    console = Console()
    if summary is not None:
        print_table(summary, console)
    if trainer.is_global_zero:
        console.print(f"Model: {folder / 'bundle'}")


def _interruption(error: SystemExit) -> KeyboardInterrupt:
    """The interruption that Lightning ended the training for; it may have been SIGTERM."""
    caught = error.__context__
    return caught if isinstance(caught, KeyboardInterrupt) else KeyboardInterrupt()
