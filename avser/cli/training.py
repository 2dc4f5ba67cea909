"""What the commands that read training configurations share: files, parser, errors."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

from avser.errors import ConfigError, unknown

_FLAGS = ("-c", "--config")


def locate(name: str) -> str:
    """Path of a configuration: as given, or ``configs/...`` as it is installed with avser.

    Raises:
        ConfigError: there is none; the sentence lists those of the same folder.
    """
    if Path(name).is_file():
        return name
    parts = Path(name).parts
    root = Path(str(files("avser.configs")))
    inside = root.joinpath(*(parts[1:] if parts[:1] == ("configs",) else parts))
    if inside.is_file():
        return str(inside)
    known = sorted(f"configs/{p.relative_to(root).as_posix()}" for p in root.rglob("*.yaml"))
    raise ConfigError(unknown("configuration", name, known))


def with_located(words: Sequence[str]) -> list[str]:
    """Replace the configurations among command-line words by their paths."""
    found: list[str] = []
    for word in words:
        flag, equals, value = word.partition("=")
        if found and found[-1] in _FLAGS:
            found.append(locate(word))
        elif equals and flag in _FLAGS:
            found.append(f"{flag}={locate(value)}")
        else:
            found.append(word)
    return found


class Parser(argparse.ArgumentParser):
    """An argument parser whose flags stand beside those of the configuration.

    Args:
        command: name of the command.
        about: one line.
    """

    def __init__(self, command: str, about: str) -> None:
        super().__init__(prog=f"avser {command}", description=about, allow_abbrev=False)
        self.add_argument(
            "-c",
            "--config",
            action="append",
            default=[],
            metavar="FILE",
            help="configuration; several compose, later ones win",
        )

    def split(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Parse our own flags; return them and the words for the configuration's parser."""
        own, rest = self.parse_known_args(list(words))
        configs = [w for name in own.config for w in ("-c", locate(name))]
        return own, [*configs, *rest]


def cli_class() -> Any:  # noqa: ANN401
    """The LightningCLI that reads our configurations; imported late because it is slow."""
    from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

    class ConfigurationCLI(LightningCLI):
        """Links the classes of the data to the network."""

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.link_arguments("data.classes", "model.emotions", apply_on="instantiate")

    return ConfigurationCLI


def parse(
    words: Sequence[str], *, trainer_defaults: dict[str, Any] | None = None, build: bool = True
) -> Any:  # noqa: ANN401
    """Read configurations and build trainer, task and data.

    Raises:
        ConfigError: a setting is unknown or of the wrong type; in one sentence.
    """
    from avser.task import EmotionTask

    data = import_module("avser.datamodules.clips").ClipDataModule
    printed = StringIO()
    try:
        with redirect_stderr(printed):
            return cli_class()(
                EmotionTask,
                data,
                run=False,
                args=list(words),
                save_config_callback=None,
                seed_everything_default=0,
                trainer_defaults=trainer_defaults or {},
                parser_kwargs={"prog": "avser fit"},
            )
    except SystemExit as error:
        if not error.code:  # --help, --print_config
            raise
        raise ConfigError(_sentence(printed.getvalue())) from error
    finally:
        if "error:" not in printed.getvalue():
            sys.stderr.write(printed.getvalue())


def _sentence(text: str) -> str:
    """Condense what jsonargparse printed to one sentence, with the class that was meant."""
    message = " ".join(text.partition("error:")[2].split()) or " ".join(text.split())
    wrong = next(
        (w.strip("'\"`.,") for w in message.split() if w.strip("'\"`").startswith("avser.")), ""
    )
    hint = _candidates(wrong)
    return f"Bad configuration: {message[:600]}{hint}"


def _candidates(path: str) -> str:
    """Classes of the module that was named, the likeliest first."""
    module_name, _, name = path.rpartition(".")
    try:
        module = import_module(module_name)
    except (ImportError, ValueError):
        return ""
    if hasattr(module, name):
        return ""
    known = [
        n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module_name
    ]
    close = get_close_matches(name, known, n=1)
    meant = f"; did you mean {module_name}.{close[0]}?" if close else "."
    return f" Expected one of {', '.join(sorted(known))}{meant}"
