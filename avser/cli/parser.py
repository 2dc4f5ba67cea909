"""Argument parser of the commands: description, defaults and width of the help page."""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from avser.errors import ConfigError


class CommandParser(argparse.ArgumentParser):
    """A parser whose help shows the default of each flag; abbreviated flags are refused.

    So are empty values, such as those of shell variables that are not set: as a path they would
    mean the current folder.

    Args:
        command: name of the command, such as ``federate table``.
        about: what the command does, in sentences.
        epilog: text below the flags; its line breaks are kept.
    """

    def __init__(self, command: str, about: str, *, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"avser {command}",
            description=about,
            allow_abbrev=False,
            epilog=epilog,
            formatter_class=_HelpFormatter,
        )

    def parse_known_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        namespace: Any = None,  # noqa: ANN401
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse words; see `argparse.ArgumentParser.parse_known_args`.

        Raises:
            ConfigError: a flag's value is empty.
        """
        words = list(args or ())
        for before, word in pairwise([*words, None]):
            flag = (before or "").removesuffix("=")
            empty = flag != before or word == ""
            if empty and flag in self._option_string_actions:
                raise ConfigError(f"Bad {flag} '': its value is empty; give one, or leave it out.")
        return super().parse_known_args(args, namespace)


class _HelpFormatter(argparse.HelpFormatter):
    """Fills single paragraphs, keeps texts of several lines, and adds defaults."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        takes_value = bool(action.option_strings) and action.nargs != 0
        default = action.default
        if not takes_value or default in (None, "", [], argparse.SUPPRESS):
            return text
        if isinstance(default, list):
            default = ",".join(map(str, default))
        return f"{text} (default: {f'{default:g}' if isinstance(default, float) else default})"
