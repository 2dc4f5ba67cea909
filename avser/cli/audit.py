"""``avser audit``: show what a split holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avser.cli.config import Parser, is_of_images, parse_data


def run(words: Sequence[str]) -> int:
    """Print parts, speakers, classes and duplicates; draw them with ``--plot``."""
    parser = Parser("audit", "Show what a split holds. Settings may follow as --data.*")
    parser.add_argument("--plot", metavar="OUT", type=Path, help="folder for pictures")
    own, rest = parser.split(words)
    from rich.console import Console

    from avser.cli.progress import decoding
    from avser.data.audit import audit

    data = parse_data(rest)
    with decoding() as progress:
        data.progress = progress
        found = audit(data.parts, data.digests, labels=data.labels)
    console = Console()
    _show(console, data, found)
    if own.plot is not None:
        draw = _draw_pictures if is_of_images(rest) else _draw
        for path in draw(own.plot, data, found):
            console.print(f"drawn: {path}")
    return 0


def _show(console: Any, data: Any, found: dict[str, Any]) -> None:  # noqa: ANN401
    from rich.table import Table

    corpus, split = data.corpus, data.split
    console.print(f"[bold]{corpus.title}[/bold] ({corpus.name}), labels: {corpus.label_target}")
    console.print(f"licence: {corpus.licence}", highlight=False)
    mark = f"  [bold red]{split.mark}[/]" if split.mark else ""
    console.print(f"split: {split.describe()}, split {found['split_hash']}{mark}")
    table = Table("class", *found["parts"])
    for name in data.classes:
        counts = [str(part["classes"].get(name, 0)) for part in found["parts"].values()]
        table.add_row(name, *counts)
    table.add_section()
    table.add_row("clips", *(str(p["clips"]) for p in found["parts"].values()))
    known = {part: [s for s in row["speakers"] if s] for part, row in found["parts"].items()}
    if any(known.values()):
        table.add_row("speakers", *(str(len(speakers)) for speakers in known.values()))
    console.print(table)
    for part, speakers in known.items():
        if speakers:
            console.print(f"{part}: {', '.join(speakers)}", highlight=False)
    for note in found["notes"]:
        console.print(f"note: {note}")
    for group in found["duplicates"]:
        console.print(f"duplicate recording: {' = '.join(group)}", highlight=False)
    if not found["duplicates"]:
        console.print("no duplicate recordings")
    for clip, reason in data.prepared.failed:
        console.print(f"left out: {clip.path}: {reason}")


def _draw(folder: Path, data: Any, found: dict[str, Any]) -> list[Path]:  # noqa: ANN401
    """Class counts, durations, and one waveform with both spectrogram channels per class."""
    import torch

    from avser.models.frontends.two_channel import TwoChannelSpectrogram
    from avser.types import SAMPLE_RATE, STEP_SAMPLES
    from avser.visualization.clip_plots import waveform_figure
    from avser.visualization.plots import class_counts_figure, durations_figure, save_png

    counts = {part: row["classes"] for part, row in found["parts"].items()}
    durations = {
        part: [data.samples(c) / SAMPLE_RATE for c in clips] for part, clips in data.parts.items()
    }
    paths = [folder / "classes.png", folder / "durations.png"]
    save_png(class_counts_figure(counts), paths[0])
    save_png(durations_figure(durations), paths[1])
    front = TwoChannelSpectrogram()
    for name in data.classes:
        rows = (i for i, c in enumerate(data.prepared.clips) if data.labels(c.emotion) == name)
        index = next(rows, None)
        if index is None:
            continue
        samples = torch.from_numpy(data.prepared.waves[index].astype("float32") / 32768)
        padded = torch.nn.functional.pad(samples, (0, -len(samples) % STEP_SAMPLES))
        pitch, formant = front(padded[None])[0].numpy()
        figure = waveform_figure(
            samples.numpy(),
            [("pitch (40 ms window)", pitch), ("formants (5 ms window)", formant)],
            sample_rate=SAMPLE_RATE,
            hop_s=front.hop / SAMPLE_RATE,
            fmax_hz=2000.0,
        )
        paths.append(folder / f"example_{name}.png")
        save_png(figure, paths[-1])
    return paths


def _draw_pictures(folder: Path, data: Any, found: dict[str, Any]) -> list[Path]:  # noqa: ANN401
    """Class counts, and a sheet of the first pictures of every class."""
    import cv2
    import numpy as np

    from avser.files import atomic_write
    from avser.visualization.plots import class_counts_figure, save_png

    paths = [folder / "classes.png"]
    counts = {part: row["classes"] for part, row in found["parts"].items()}
    save_png(class_counts_figure(counts), paths[0])
    words = [data.labels(c.emotion) for c in data.prepared.clips]
    for name in data.classes:
        rows = [i for i, word in enumerate(words) if word == name][:16]
        images = [np.moveaxis(data.prepared.pixels[i], 0, 2)[..., ::-1] for i in rows]  # BGR
        if images:
            paths.append(folder / f"example_{name}.png")
            with atomic_write(paths[-1], mode="wb") as file:
                file.write(cv2.imencode(".png", np.hstack(images))[1].tobytes())
    return paths
