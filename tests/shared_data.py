"""Folders of real data for long tests, looked for in the same order of places everywhere."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def shared_folder(name: str, variable: str) -> Path:
    """The first folder there is of: the variable's, beside the checkout, above that, inside it.

    Args:
        name: of the folder in ``shared/``, such as "data".
        variable: environment variable that names another folder.

    Returns:
        The folder; the one beside the checkout where there is none.
    """
    named = os.environ.get(variable)
    # a worktree lies one folder deeper than the clone
    places = [place / "shared" / name for place in (ROOT.parent, ROOT.parents[1], ROOT)]
    places = [Path(named)] if named else places
    return next((place for place in places if place.is_dir()), places[0])


def missing(what: str, folder: Path, variable: str) -> str:
    """Why a test is skipped: what was looked for, where, and how to name another place."""
    return f"no {what} in {folder}; set {variable} to the folder that holds it"


DATA = shared_folder("data", "AVSER_DATA")
CASES = shared_folder("cases", "AVSER_CASES")
MODELS = DATA.parent / "models"
