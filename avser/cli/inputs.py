"""Which files a list of paths, folders and patterns stands for."""

import glob
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from avser.errors import ConfigError
from avser.media.suffixes import is_media_name


def expand(paths: Sequence[str], *, recursive: bool) -> list[str]:
    """List files: those named, those that match a pattern, and the media of folders.

    A file that is named is taken whatever its suffix. In folders other files are left out, and
    their number is told on stderr.

    Raises:
        ConfigError: nothing is left to classify.
    """
    found: list[str] = []
    other = 0
    for name in paths:
        for path in _matches(name):
            if path.is_dir():
                inside = path.rglob("*") if recursive else path.iterdir()
                files = sorted(p for p in inside if p.is_file() and not p.name.startswith("."))
                media = [p for p in files if is_media_name(p)]
                other += len(files) - len(media)
                found += [str(p) for p in media]
            else:
                found.append(str(path))
    if other:
        many = "1 file" if other == 1 else f"{other} files"
        print(f"avser: left out {many} without a media suffix.", file=sys.stderr)
    if not found:
        raise ConfigError(
            f"Bad input {', '.join(paths)}: no media file is there; give files, folders (with "
            "--recursive for theirs) or patterns."
        )
    return list(dict.fromkeys(found))


def _matches(name: str) -> Iterable[Path]:
    if Path(name).exists() or not glob.has_magic(name):
        return [Path(name)]
    return [Path(p) for p in sorted(glob.glob(name, recursive=True))]
