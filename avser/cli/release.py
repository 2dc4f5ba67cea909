"""``avser release``: give a trained model its name, figures and card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avser.cli.parser import CommandParser
from avser.errors import ConfigError

if TYPE_CHECKING:
    from avser.models.net import EmotionNet


def _parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser("release", "Give a trained model its name, figures and card.")
    parser.add_argument("model", metavar="RUN", help="run folder, or bundle")
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="the new bundle")
    parser.add_argument("--name", help="name of the model (default: the folder's)")
    parser.add_argument(
        "--figures",
        metavar="FILE",
        type=Path,
        help="results.json of a cross-validation of the same recipe",
    )
    parser.add_argument(
        "--evaluated",
        metavar="FILE",
        type=Path,
        help="instead: what avser evaluate --json wrote of this very model",
    )
    parser.add_argument(
        "--calibration",
        metavar="RUN",
        type=Path,
        help="folder of a cross-validation of the same recipe, whose test parts choose the "
        "temperature; every corpus counts alike (default: the validation part chose it)",
    )
    parser.add_argument("--half", action="store_true", help="store the weights in float16")
    parser.add_argument(
        "--command", default="", metavar="TEXT", help="for the card: command that made the figures"
    )
    parser.add_argument("--about", default="", metavar="TEXT", help="first paragraph of the card")
    parser.add_argument(
        "--push-to-hub", metavar="OWNER/NAME", help="also upload it to the Hugging Face Hub"
    )
    return parser


def run(words: Sequence[str]) -> int:
    """Write a bundle of a run's weights with the figures of a cross-validation."""
    parser = _parser()
    own = parser.parse_args(list(words))
    from avser.bundle import serialization as bundle
    from avser.bundle.provenance import check_name

    name = check_name(own.name or own.out.resolve().name)
    loaded = bundle.load(own.model)
    figures = dict(loaded.config.get("figures") or {})
    if own.figures is not None and own.evaluated is not None:
        parser.error("give either --figures or --evaluated")
    if own.evaluated is not None:
        figures = bundle.card_figures(_read(own.evaluated))
        figures["command"] = own.command
    if own.figures is not None:
        figures = bundle.card_figures(_read(own.figures))
        figures["source"] = (
            "From a cross-validation of the same recipe. These weights were trained on all of its "
            "speakers, those that chose the epoch included."
        )
        figures["command"] = own.command
    if own.about:
        figures["about"] = own.about
    if own.calibration is not None:
        _calibrate(loaded.net, own.calibration)
    folder = bundle.save(
        loaded.net,
        own.out,
        spec=loaded.config["net"],
        name=name,
        provenance=loaded.provenance,
        figures=figures,
        half=own.half,
    )
    (weights,) = folder.glob("*.safetensors")
    print(f"{folder}: {weights.stat().st_size:,} bytes")
    if own.push_to_hub is not None:
        from avser.bundle.hub import push_to_hub

        print(push_to_hub(folder, own.push_to_hub))
    return 0


def _calibrate(net: "EmotionNet", run: Path) -> None:
    """Set the temperature of a net of one stream from a cross-validation's test parts.

    Raises:
        ConfigError: the net has several heads, a fold is not finished, or classes differ.
    """
    from avser.bundle import serialization as bundle
    from avser.evaluation.calibration import crossval_temperature
    from avser.evaluation.predictions import Predictions

    if len(net.outputs) > 1:
        raise ConfigError(
            f"Bad --calibration: the model has {len(net.outputs)} heads "
            f"({', '.join(net.outputs)}); calibrate the model of each stream and join them."
        )
    folders = sorted(run.glob("seed*/fold*"))
    unfinished = [f for f in folders if not (f / "DONE").exists()]
    if not folders or unfinished:
        raise ConfigError(
            f"Bad --calibration {run}: it holds {len(folders)} folds, {len(unfinished)} of them "
            "unfinished; give the folder of a finished avser crossval."
        )
    (head,) = net.outputs
    folds = []
    for folder in folders:
        predictions = Predictions.load(folder / "predictions" / "test.json")
        if predictions.emotions != net.emotions:
            raise ConfigError(
                f"Bad --calibration {run}: its classes are {', '.join(predictions.emotions)}, the "
                f"model's {', '.join(net.emotions)}; give a cross-validation of the same recipe."
            )
        folds.append((predictions, float(bundle.load(folder).net.temperature(head))))
    net.temperature(head).fill_(crossval_temperature(folds))


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Bad figures {path}: {error}; give a results.json.") from error
    return content
