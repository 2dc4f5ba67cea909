"""``avser audit``: show what a split holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avser.cli.config import Parser, parse_data, prepare_data
from avser.errors import escape_controls

if TYPE_CHECKING:
    from rich.console import Console

    from avser.data.audio_cache import Prepared
    from avser.data.audit import SplitAudit
    from avser.data.image_cache import PreparedImages
    from avser.training.data_module import LabelledDataModule


def run(words: Sequence[str]) -> int:
    """Print parts, speakers, classes and duplicates; draw them with ``--plot``."""
    parser = Parser(
        "audit",
        "Show the clips, speakers and classes of each part of a split. Any setting of "
        "the data may follow, such as --data.split loso.",
    )
    parser.add_argument(
        "--plot", metavar="DIR", type=Path, help="also draw the counts into this folder"
    )
    own, rest = parser.split(words)
    from rich.console import Console

    from avser.data.audio_cache import Prepared
    from avser.data.audit import audit
    from avser.data.image_cache import PreparedImages

    data = parse_data(rest)
    allowed, data.max_missing = data.max_missing, 1.0  # shown below, not refused
    prepare_data(data)
    content = audit(data.parts, data.digests, labels=data.labels)
    console = Console()
    _print(console, data, content)
    if len(data.prepared.failed) > allowed * len(data.rows):
        console.print(
            f"[bold red]More than {100 * allowed:g} % of the clips are left out[/]: training and "
            "evaluation will refuse this corpus until the files are repaired."
        )
    if own.plot is not None:
        paths = [_draw_classes(own.plot, content)]
        if isinstance(data.prepared, PreparedImages):
            paths += _draw_pictures(own.plot, data, data.prepared)
        elif isinstance(data.prepared, Prepared):
            paths += [_draw_durations(own.plot, data), *_draw_clips(own.plot, data, data.prepared)]
        for path in paths:
            console.print(f"drawn: {path}", soft_wrap=True, markup=False, highlight=False)
    return 0


def _print(console: "Console", data: "LabelledDataModule", content: "SplitAudit") -> None:
    from rich.table import Table

    from avser.training.data_module import failure_text

    # names of files and speakers are no markup, and a wrapped path can't be copied
    def print_line(text: str) -> None:
        console.print(escape_controls(text), soft_wrap=True, markup=False, highlight=False)

    corpus, split = data.corpus, data.split
    console.print(f"[bold]{corpus.title}[/bold] ({corpus.name}), labels: {corpus.label_target}")
    console.print(f"licence: {corpus.licence}", highlight=False)
    mark = f"  [bold red]{split.mark}[/]" if split.mark else ""
    console.print(f"split: {data.split_description}, split {content['split_hash']}{mark}")
    parts = content["parts"]
    table = Table("class", *parts)
    for name in data.classes:
        counts = [str(part["classes"].get(name, 0)) for part in parts.values()]
        table.add_row(name, *counts)
    table.add_section()
    table.add_row("clips", *(str(p["clips"]) for p in parts.values()))
    known = {part: [s for s in row["speakers"] if s] for part, row in parts.items()}
    if any(known.values()):
        table.add_row("speakers", *(str(len(speakers)) for speakers in known.values()))
    console.print(table)
    for part, speakers in known.items():
        if speakers:
            print_line(f"{part}: {', '.join(speakers)}")
    for note in content["notes"]:
        print_line(f"note: {note}")
    for group in content["duplicates"]:
        print_line(f"duplicate recording: {' = '.join(group)}")
    if not content["duplicates"]:
        console.print("no duplicate recordings")
    for clip, reason in data.prepared.failed:
        print_line(f"left out: {failure_text(clip, reason)}")


def _draw_classes(folder: Path, content: "SplitAudit") -> Path:
    """Clips of each class in each part."""
    from avser.visualization.plots import class_counts_figure, save_figure

    path = folder / "classes.png"
    counts = {part: row["classes"] for part, row in content["parts"].items()}
    save_figure(class_counts_figure(counts), path)
    return path


def _draw_durations(folder: Path, data: "LabelledDataModule") -> Path:
    """Durations of the clips of each part."""
    from avser.types import SAMPLE_RATE
    from avser.visualization.plots import durations_figure, save_figure

    path = folder / "durations.png"
    durations = {
        part: [data.samples(c) / SAMPLE_RATE for c in clips] for part, clips in data.parts.items()
    }
    save_figure(durations_figure(durations), path)
    return path


def _draw_clips(folder: Path, data: "LabelledDataModule", prepared: "Prepared") -> list[Path]:
    """The first clip of each class: its waveform and both spectrogram channels."""
    import torch

    from avser.models.frontends.two_channel import TwoChannelSpectrogram
    from avser.types import SAMPLE_RATE, STEP_SAMPLES
    from avser.visualization.clip_plots import waveform_figure
    from avser.visualization.plots import save_figure

    paths = []
    frontend = TwoChannelSpectrogram()
    for name in data.classes:
        rows = (i for i, c in enumerate(prepared.clips) if data.labels(c.emotion) == name)
        index = next(rows, None)
        if index is None:
            continue
        samples = torch.from_numpy(prepared.waves[index].astype("float32") / 32768)
        padded = torch.nn.functional.pad(samples, (0, -len(samples) % STEP_SAMPLES))
        pitch, formant = frontend(padded[None])[0].numpy()
        figure = waveform_figure(
            samples.numpy(),
            [("pitch (40 ms window)", pitch), ("formants (5 ms window)", formant)],
            sample_rate=SAMPLE_RATE,
            hop_s=frontend.hop / SAMPLE_RATE,
            fmax_hz=2000.0,
        )
        paths.append(folder / f"example_{name}.png")
        save_figure(figure, paths[-1])
    return paths


def _draw_pictures(
    folder: Path, data: "LabelledDataModule", prepared: "PreparedImages"
) -> list[Path]:
    """A sheet of the first pictures of each class."""
    import cv2
    import numpy as np

    from avser.files import atomic_write

    paths = []
    classes = [data.labels(c.emotion) for c in prepared.clips]
    for name in data.classes:
        rows = [i for i, each in enumerate(classes) if each == name][:16]
        images = [np.moveaxis(prepared.pixels[i], 0, 2)[..., ::-1] for i in rows]  # BGR
        if images:
            paths.append(folder / f"example_{name}.png")
            with atomic_write(paths[-1], mode="wb") as file:
                file.write(cv2.imencode(".png", np.hstack(images))[1].tobytes())
    return paths
