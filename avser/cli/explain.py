"""``avser explain``: show which steps, bands and face regions decided a prediction."""

import json
from collections.abc import Sequence
from pathlib import Path

from avser.cli.parser import CommandParser

FORMATS = ("png", "pdf", "svg")


def parser() -> CommandParser:
    """Return the command's parser."""
    p = CommandParser(
        "explain",
        "Show which steps, frequency bands and face regions decided a prediction: the "
        "attention over steps, the probability that is lost without each, and Grad-CAM over the "
        "spectrogram and the face.",
    )
    p.add_argument("path", metavar="CLIP", help="media file of at most 61 s")
    p.add_argument("--out", metavar="DIR|FILE", required=True, help="a folder of figures and "
                   "explanation.json; or one figure, .png, .pdf or .svg")  # fmt: skip
    p.add_argument("--format", choices=FORMATS, default="png", help="format of a folder's figures")
    p.add_argument("--model", metavar="NAME|DIR", help="released model, bundle, or run folder")
    p.add_argument("--emotion", metavar="NAME", help="emotion to explain (default: the "
                   "predicted one)")  # fmt: skip
    p.add_argument("--modality", choices=("auto", "audio", "video", "both"), default="auto",
                   help="streams to use; auto: all that the clip and the model have")  # fmt: skip
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto: the fastest")
    return p


def run(words: Sequence[str]) -> int:
    """Write the figures and print what decided."""
    own = parser().parse_args(list(words))
    from avser.files import atomic_write
    from avser.inference.predictor import Predictor
    from avser.visualization.explain_plots import explanation_figure, explanation_figures
    from avser.visualization.plots import figure_format, save_figure

    out = Path(own.out)
    single = bool(out.suffix) and not out.is_dir()
    if single:
        figure_format(out)  # before minutes are spent
    predictor = Predictor.from_pretrained(own.model, device=own.device)
    explanation = predictor.explain(own.path, emotion=own.emotion, modality=own.modality)
    result = explanation.to_dict()
    title = Path(own.path).name
    if single:
        written = [save_figure(explanation_figure(explanation, title=title), out)]
    else:
        figures = {"explanation": explanation_figure(explanation, title=title)}
        figures |= explanation_figures(explanation)
        written = [save_figure(f, out / f"{n}.{own.format}") for n, f in figures.items()]
        written.append(out / "explanation.json")
        with atomic_write(written[-1]) as file:
            file.write(json.dumps({"path": own.path, **result}, indent=1) + "\n")
    print("\n".join(lines(result)))
    print("\n".join(f"drawn: {path}" for path in written))
    return 0


def lines(result: dict) -> list[str]:  # type: ignore[type-arg]
    """Sentences about the steps, bands and regions that decided most."""
    from avser.cli.results import percent

    rows = [f"{result['emotion']} {percent(result['probability'])}, by the {result['head']} head"]
    if result["steps"]:
        step = max(result["steps"], key=lambda s: s["lost"])
        rows.append(
            f"  step:   from {step['start_s']:.2f} s; without it {percent(step['lost'])} less"
        )
    if result["bands"]:
        band = max(result["bands"], key=lambda b: b["share"])
        rows.append(
            f"  band:   {band['low_hz']:.0f} to {band['high_hz']:.0f} Hz, "
            f"{percent(band['share'])} of the map"
        )
    if result["regions"]:
        name, share = max(result["regions"].items(), key=lambda item: item[1])
        rows.append(f"  region: {name}, {percent(share)} of the map")
    return rows
