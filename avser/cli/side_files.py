"""Files that ``avser classify`` writes beside its rows: timelines, plots, annotated clips."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avser.errors import ConfigError, MediaError, unknown
from avser.files import is_special
from avser.stores import is_url, local_copy

if TYPE_CHECKING:
    from avser.inference.classifier import Failure
    from avser.types import Prediction

TIMELINES = ("csv", "json", "vtt", "srt", "TextGrid", "eaf", "labelstudio.json")
PLOTS = ("png", "pdf", "svg")
CLIPS = ("mp4",)


@dataclass(frozen=True)
class _Target:
    """One kind of side file: its flag, its name, its format, and whether that is a folder."""

    flag: str
    name: Path
    suffix: str
    folder: bool
    write: Callable[["Prediction", Path], bool]


class SideFiles:
    """Side files of a job, one clip after another.

    Args:
        own: arguments of the command.
        several: whether there is more than one clip: then each target is a folder, laid out as
            the clips are.
        above: folder that holds all clips.

    Raises:
        ConfigError: a target's ending is not legal.
    """

    def __init__(self, own: argparse.Namespace, *, several: bool, above: Path) -> None:
        self._several, self._above = several, above
        self._format: str | None = own.timeline_format
        self._targets = [
            self._target("--timeline", own.timeline, TIMELINES, _write_timeline, self._format),
            self._target("--plot", own.plot, PLOTS, _write_plot),
            self._target("--annotate", own.annotate, CLIPS, _write_annotated),
        ]
        self._written: dict[str, list[Path]] = {}
        self._skipped: list[str] = []

    def _target(
        self,
        flag: str,
        name: str | None,
        formats: tuple[str, ...],
        write: Callable[["Prediction", Path], bool],
        kind: str | None = None,
    ) -> _Target | None:
        """Check a target: one clip has a file whose suffix is the format; several a folder."""
        if name is None:
            return None
        legal = {f.lower() for f in formats}
        endings = sorted((f for f in legal if name.lower().endswith(f".{f}")), key=len)
        suffix = endings[-1] if endings else Path(name).suffix.removeprefix(".").lower()
        named = suffix in legal and (kind is None or suffix == kind.lower())
        folder = self._several or Path(name).is_dir() or (kind is not None and not named)
        if not folder and suffix not in legal:
            expected = ", ".join(f".{f}" for f in formats)
            raise ConfigError(
                unknown(f"{flag[2:]} format", suffix, formats)
                if flag == "--timeline"
                else f"Bad {flag} {name}: expected a name that ends in {expected}."
            )
        if self._several and suffix in legal and not Path(name).is_dir():
            raise ConfigError(
                f"Bad {flag} {name} for several clips: it names a folder then; leave the ending out"
                + ("." if flag != "--timeline" else ", and add --timeline-format.")
            )
        if folder and flag == "--timeline" and kind is None:
            raise ConfigError(
                f"Bad {flag} {name}: for several clips it names a folder; add --timeline-format."
            )
        ending = kind or (suffix if named else formats[0])
        return _Target(flag, Path(name), ending, folder, write)

    def write(self, prediction: "Prediction") -> "Failure | None":
        """Write all side files of a clip; the first failure is returned, the rest are written."""
        from avser.inference.classifier import failure_of

        path = str(prediction.path)
        failure = None
        for target in self._targets:
            if target is None:
                continue
            file = self._file(target, path)
            try:
                if target.write(prediction, file):
                    self._written.setdefault(target.flag, []).append(file)
                elif target.flag == "--annotate":
                    self._skipped.append(path)
            except Exception as error:  # one clip's drawing must not end the job
                failure = failure or failure_of(path, error, doing=f"{target.flag} of it")
        return failure

    def _file(self, target: _Target, path: str) -> Path:
        if not target.folder:
            return target.name
        if is_url(path):
            inside = Path(*path.split("://", 1)[1].split("?")[0].split("/"))
        else:
            whole = Path("stdin" if path == "-" else path).absolute()
            inside = (
                whole.relative_to(self._above)
                if whole.is_relative_to(self._above)
                else whole.relative_to(whole.anchor)
            )
        return target.name / f"{inside}.{target.suffix}"

    def summary(self) -> list[str]:
        """Sentences about where files were written, and about clips without a picture."""
        notes = []
        for flag, files in self._written.items():
            target = next(t for t in self._targets if t is not None and t.flag == flag)
            many = f"{len(files)} files" if len(files) > 1 else "1 file"
            notes.append(
                f"wrote {many} in {target.name}." if target.folder else f"wrote {files[0]}."
            )
        if self._skipped:
            names = ", ".join(self._skipped[:3]) + (", ..." if len(self._skipped) > 3 else "")
            notes.append(
                f"{names}: no video to draw on, so that --annotate wrote nothing; --plot draws "
                "the timeline."
            )
        return notes


def _write_timeline(prediction: "Prediction", file: Path) -> bool:
    from avser.inference.writers import write_timeline

    write_timeline(prediction, file)
    return True


def _write_plot(prediction: "Prediction", file: Path) -> bool:
    from avser.media.pictures import PICTURE_SUFFIXES
    from avser.visualization.annotate import thumbnails
    from avser.visualization.clip_plots import timeline_figure
    from avser.visualization.plots import save_figure

    faces = []
    if prediction.boxes and Path(str(prediction.path)).suffix.lower() not in PICTURE_SUFFIXES:
        with local_copy(_again(prediction)) as source:
            faces = thumbnails(prediction, source)
    save_figure(timeline_figure(prediction, faces=faces), file)
    return True


def _write_annotated(prediction: "Prediction", file: Path) -> bool:
    from avser.media.pictures import PICTURE_SUFFIXES
    from avser.media.reader import probe
    from avser.visualization.annotate import annotate

    if Path(str(prediction.path)).suffix.lower() in PICTURE_SUFFIXES:
        return False
    with local_copy(_again(prediction)) as source:
        if not probe(source).has_video:
            return False
        annotate(prediction, source, file)
    return True


def _again(prediction: "Prediction") -> str:
    """The path of a clip that is to be read a second time."""
    path = str(prediction.path)
    if path == "-" or is_special(path):
        raise MediaError(
            f"Can't read {path} again: a pipe is read once; save it to a file, and name that."
        )
    return path
