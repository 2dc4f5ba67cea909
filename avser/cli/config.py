"""Parser of commands that train or read a corpus, and the objects that configurations describe."""

import argparse
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from avser.cli.class_names import expand_classes
from avser.cli.config_errors import one_sentence
from avser.cli.parser import CommandParser
from avser.errors import ConfigError, unknown

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from pytorch_lightning import Trainer

    from avser.training.data_module import LabelledDataModule
    from avser.training.task import EmotionTask


def locate(name: str) -> str:
    """Path of a configuration: as given, or ``configs/...`` as it is installed with avser.

    Raises:
        ConfigError: there is none; the sentence gives the nearest names.
    """
    if Path(name).is_file():
        return name
    parts = Path(name).parts
    root = Path(str(files("avser.configs")))
    inside = root.joinpath(*(parts[1:] if parts[:1] == ("configs",) else parts))
    if inside.is_file():
        return str(inside)
    known = sorted(f"configs/{p.relative_to(root).as_posix()}" for p in root.rglob("*.yaml"))
    near = get_close_matches(name, known, n=4, cutoff=0.4)
    near += [k for k in known if Path(name).stem and Path(name).stem in k and k not in near][:4]
    meant = f"did you mean {' or '.join(map(repr, near[:4]))}?" if near else "it is no file."
    raise ConfigError(
        f"Bad configuration {name!r}: expected a file, or one of the {len(known)} in configs/; "
        f"{meant}"
    )


class Parser(CommandParser):
    """A command's parser whose flags stand beside those of the configuration.

    Args:
        command: name of the command.
        about: what the command does, in sentences.
        corpus: add ``--corpus NAME``, which is ``-c configs/data/NAME.yaml``.
        figures: add ``--figures``, for commands that write a report.
        epilog: text below the flags.
    """

    def __init__(
        self,
        command: str,
        about: str,
        *,
        corpus: bool = True,
        figures: bool = False,
        epilog: str | None = None,
    ) -> None:
        super().__init__(command, about, epilog=epilog)
        self.add_argument(
            "-c",
            "--config",
            action="append",
            default=[],
            metavar="FILE",
            help="configuration, such as configs/model/audio_crnn.yaml; may be "
            "repeated, later ones win",
        )
        self._has_corpus = corpus
        if corpus:
            self.add_argument(
                "--corpus",
                metavar="NAME",
                help="corpus, such as ravdess (configs/data/NAME.yaml); for your own "
                "recordings: folders "
                "or manifest",
            )
        self.add_argument(
            "--root", metavar="DIR", help="folder (or CSV) of the corpus, or its address (s3://…)"
        )
        if figures:
            self.add_argument(
                "--figures",
                action="append",
                choices=("png", "pdf", "svg"),
                help="also write the report's figures at column width, in this format; may be "
                "repeated",
            )

    def split(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Parse our own flags; return them and the words for the configuration's parser."""
        own, rest = self.parse_known_args(list(words))
        named = own.corpus if self._has_corpus and own.corpus else None
        names = [*([_corpus_config(named)] if named else []), *own.config]
        configs = [w for name in names for w in ("-c", locate(name))]
        root = [f"--data.corpus.init_args.root={own.root}"] if own.root else []
        return own, [*configs, *expand_classes(rest), *root]


def _corpus_config(name: str) -> str:
    """Configuration of a corpus's name.

    Raises:
        ConfigError: there is none of that name.
    """
    root = Path(str(files("avser.configs"))) / "data"
    known = sorted(path.stem for path in root.glob("*.yaml"))
    key = name.strip().lower().replace("-", "_")
    if key not in known:
        raise ConfigError(unknown("corpus", name, known))
    return f"configs/data/{key}.yaml"


def prepare_data(data: "LabelledDataModule", *, strict: bool = True) -> None:
    """Decode what is not yet in the cache, with a progress bar, and print what was left out.

    Args:
        data: of `parse_data`, or of `parse`.
        strict: refuse more missing clips than the data module allows.

    Raises:
        CorpusError: no clip, or with ``strict`` too few, could be decoded.
        SplitError: with ``strict``, the split is impossible.
    """
    from pytorch_lightning.utilities import rank_zero_only

    from avser.cli.progress import counting

    with counting("decoding") as progress:
        data.progress = progress
        missing = data.missing  # decodes
    if strict:
        _ = data.parts  # what is wrong with it is raised once, before further processes start
    if getattr(rank_zero_only, "rank", 0):  # the first process of a distributed training prints
        return
    for note in [*data.corpus.notes, *([missing] if missing else [])]:
        print(f"avser: {note}", file=sys.stderr)


@dataclass(frozen=True)
class TrainingSetup:
    """Objects that configurations describe.

    Attributes:
        trainer, task, data: built, not yet run.
        text: the resolved configuration in YAML, every default written out.
        groups: objects of the further groups, by name.
    """

    trainer: "Trainer"
    task: "EmotionTask"
    data: "LabelledDataModule"
    text: str
    groups: Mapping[str, object]


def parse(
    words: Sequence[str],
    *,
    trainer_defaults: Mapping[str, object] | None = None,
    groups: Mapping[str, type] | None = None,
    logs: Path | None = None,
) -> TrainingSetup:
    """Read configurations and build trainer, task and data.

    Args:
        words: of the command line.
        trainer_defaults: settings of the trainer.
        groups: further groups of settings by name, each of its class's constructor.
        logs: folder in which a logger of the user writes, unless its settings name another.

    Raises:
        ConfigError: a setting is unknown or of the wrong type; in one sentence.
    """
    from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

    from avser.training.data_module import LabelledDataModule
    from avser.training.task import EmotionTask

    class ConfigurationCLI(LightningCLI):
        def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_lightning_class_args(self.trainer_class, "trainer")
            plain = {k: v for k, v in self.trainer_defaults.items() if k != "callbacks"}
            parser.set_defaults({f"trainer.{k}": v for k, v in plain.items()})
            parser.add_lightning_class_args(EmotionTask, "model")
            _add_data(parser)
            parser.link_arguments("data.classes", "model.emotions", apply_on="instantiate")
            for name, kind in (groups or {}).items():
                parser.add_class_arguments(kind, name)

    words = [*words, *(logger_folder(words, logs) if logs is not None else ())]
    with one_sentence(words):
        cli = ConfigurationCLI(
            EmotionTask,
            LabelledDataModule,
            run=False,
            args=words,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults=dict(trainer_defaults or {}),
            parser_kwargs={"prog": "avser fit", "exit_on_error": False},
        )
    _check_processes(cli.trainer)
    return TrainingSetup(
        trainer=cli.trainer,
        task=cli.model,
        data=cli.datamodule,
        # a null is a choice too (no trimming, no crop): without it the default would come back
        text=cli.parser.dump(cli.config, skip_link_targets=True, skip_unset=False),
        groups={name: cli.config_init[name] for name in groups or {}},
    )


def _check_processes(trainer: "Trainer") -> None:
    """Refuse more processes than cores: without GPUs, ``devices`` is their number.

    Raises:
        ConfigError: there are more.
    """
    from pytorch_lightning.accelerators import CPUAccelerator

    cores = max(2, os.cpu_count() or 1)  # two are always legal, to try a distributed training
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores:
        raise ConfigError(
            f"Bad trainer.devices {trainer.num_devices}: each is a process on a core, and legal "
            f"are 1 to {cores} here; give fewer, or a machine with GPUs."
        )


def parse_data(words: Sequence[str]) -> "LabelledDataModule":
    """Read configurations and build the data alone; settings of model and trainer are passed over.

    Raises:
        ConfigError: see `parse`.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="avser", exit_on_error=False)
    parser.add_argument("-c", "--config", action="config", help="configuration")
    _add_data(parser)
    for name in ("model", "trainer", "federated"):
        parser.add_argument(f"--{name}", type=dict)  # neither checked nor built
    parser.add_argument("--seed_everything")
    with one_sentence(words):
        data: LabelledDataModule = parser.instantiate(parser.parse_args(list(words))).data
    return data


def _add_data(parser: "ArgumentParser") -> None:
    """Accept ``data``: settings of `ClipDataModule`, or of the class in ``data.class_path``.

    With a default of `set_defaults` instead, the type would be a union with None, and errors in
    building it would lose their own class.
    """
    from avser.training.data_module import LabelledDataModule

    default = {"class_path": "avser.datamodules.clips.ClipDataModule"}
    parser.add_subclass_arguments(LabelledDataModule, "data", default=default)


def logger_folder(words: Sequence[str], folder: Path) -> list[str]:
    """Words that let a logger of the user write below a run folder, unless they say where to."""
    path = ""
    for word, value in zip(words, [*words, ""][1:], strict=True):
        flag, equals, rest = word.partition("=")
        if flag in ("--trainer.logger", "--trainer.logger.class_path"):
            path = rest if equals else value
    if not path or any("logger" in w and "save_dir" in w for w in words):
        return []
    module, _, name = path.rpartition(".")
    kind = getattr(import_module(module), name, None) if module else None
    takes = kind is not None and "save_dir" in inspect.signature(kind).parameters
    return [f"--trainer.logger.init_args.save_dir={folder}"] if takes else []
