"""``avser join``: make an audio-visual model of a voice model and a face model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avser.cli.parser import CommandParser
from avser.errors import ConfigError

if TYPE_CHECKING:
    from avser.evaluation.predictions import Predictions

_DESCRIPTION = (
    "Make an audio-visual model of a voice model and a face model of the same classes, without "
    "training. Where no face is judged it predicts what the voice model predicts, bit for bit; "
    "where both are, the product of their calibrated probabilities. The weight of the face is "
    "chosen on the runs' validation predictions, paired by emotion, unless it is given."
)


def parser() -> CommandParser:
    """The command's flags."""
    own = CommandParser("join", _DESCRIPTION)
    own.add_argument("voice", metavar="VOICE", help="released model, bundle or run folder")
    own.add_argument("face", metavar="FACE", help="released model, bundle or run folder")
    own.add_argument("--out", metavar="DIR", required=True, help="folder of the new bundle")
    own.add_argument("--name", help="name of the model (default: the name of DIR)")
    own.add_argument(
        "--weight",
        type=float,
        metavar="W",
        help="weight of the face's log probabilities (default: chosen on the validation "
        "predictions)",
    )
    return own


def run(words: Sequence[str]) -> int:
    """Write the bundle and print its weight and size."""
    own = parser().parse_args(words)
    from avser.bundle import serialization as bundle
    from avser.bundle.join import join_bundles
    from avser.bundle.provenance import check_name

    name = check_name(own.name or Path(own.out).resolve().name)
    voice, face = bundle.load(own.voice), bundle.load(own.face)
    weight = own.weight
    if weight is None:
        parts = [_validation(text) for text in (own.voice, own.face)]
        weight = _chosen(*parts, emotions=voice.net.emotions)
    folder = join_bundles(voice, face, own.out, weight=weight, name=name)
    print(f"{folder}: weight {weight:g} of the face, {bundle.size_of(folder) / 1e6:.1f} MB")
    return 0


def _validation(run_folder: str) -> "Predictions":
    """Validation predictions of a run.

    Raises:
        ConfigError: it kept none.
    """
    from avser.evaluation.predictions import Predictions

    given = Path(run_folder)
    for folder in (given, given.parent):  # a run, or the bundle in it
        path = folder / "predictions" / "validation.json"
        if path.is_file():
            return Predictions.load(path)
    raise ConfigError(
        f"Bad model {run_folder}: it is no run folder with validation predictions to choose a "
        "weight on; give --weight, such as 0.5."
    )


def _chosen(voice: "Predictions", face: "Predictions", *, emotions: Sequence[str]) -> float:
    import numpy as np

    from avser.bundle.join import choose_weight, pair_by_label

    def in_order(part: "Predictions") -> tuple["np.ndarray", "np.ndarray"]:
        places = [part.emotions.index(name) for name in emotions]
        labels = np.array([emotions.index(part.emotions[i]) for i in part.labels], np.int64)
        return part.probabilities[:, places], labels

    (of_voice, labels), (of_face, face_labels) = in_order(voice), in_order(face)
    rows, partners = pair_by_label(labels, face_labels)
    weight, losses = choose_weight(of_voice[rows], of_face[partners], labels[rows])
    print(
        f"{len(rows)} validation pairs (PAIRED): negative log-likelihood {losses[0.0]:.3f} by the "
        f"voice alone, {losses[weight]:.3f} with weight {weight:g}"
    )
    return weight
