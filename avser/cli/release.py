"""``avser release``: give a trained model its name, figures and card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avser.cli.parser import CommandParser
from avser.errors import ConfigError


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
    folder = bundle.save(
        loaded.net,
        own.out,
        spec=loaded.config["net"],
        name=own.name or own.out.resolve().name,
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


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Bad figures {path}: {error}; give a results.json.") from error
    return content
