"""Argument parser of the commands: description, defaults and width of the help page."""

import argparse


class CommandParser(argparse.ArgumentParser):
    """A parser whose help shows the default of each flag; abbreviated flags are refused.

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
