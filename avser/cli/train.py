"""``avser train``: train a model on your own recordings.

A thin layer over ``avser fit`` and ``avser crossval``: it recognises what the folder holds, names
the model's configuration, and prints the split before the training begins.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from avser.cli.class_names import expand_classes
from avser.cli.config import locate, parse_data
from avser.cli.parser import CommandParser
from avser.errors import ConfigError, CorpusError
from avser.stores import as_path, kind

if TYPE_CHECKING:
    from avser.data.splits import SplitParts
    from avser.training.data_module import LabelledDataModule

#: Configuration of each kind of model; another configuration may be named by its file.
MODELS = {
    "audio": "configs/model/audio_crnn.yaml",
    "small": "configs/model/audio_small.yaml",
    "av": "configs/model/av_jca.yaml",
}
_EPILOG = """\
PATH is a CSV with the columns path,emotion,speaker, a folder that holds
manifest.csv, or a folder of folders named after emotions: anna/angry/01.wav,
angry/anna/01.wav.

The split is chosen by what is known: your own parts (a column part, or folders
train, validation and test), else folds of whole speakers, one of which is the
test part. It is printed first.

Any setting of avser fit may follow, such as --model.lr 1e-3,
--data.split loso, --data.merge "{calm: neutral}", --data.corpus.speaker none.
"""


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("train", "Train a model on your own recordings.", epilog=_EPILOG)
    made.add_argument(
        "path", metavar="PATH", type=as_path, help="CSV, or folder of recordings; or its address"
    )
    made.add_argument(
        "--model",
        metavar="audio|small|av|FILE",
        default="audio",
        help="audio and small: the voice; av: voice and face; or a configuration",
    )
    made.add_argument(
        "--out", metavar="RUN", type=Path, default=Path("run"), help="folder of the run"
    )
    made.add_argument(
        "--crossval",
        action="store_true",
        help="train one model for each fold, so that every speaker is tested; no model is released",
    )
    made.add_argument(
        "--epochs", type=int, metavar="N", help="epochs (default: as the configuration has)"
    )
    made.add_argument(
        "--figures", choices=("png", "pdf", "svg"), default="pdf", help="format of the figures"
    )
    made.add_argument("--overwrite", action="store_true", help="replace a finished run")
    return made


def run(words: Sequence[str]) -> int:
    """Print the split, train, and write report, figures and tables."""
    command = parser()
    own, rest = command.parse_known_args(list(words))
    if own.crossval and own.overwrite:
        command.error("--crossval goes on from what is there; name another --out")
    words = [*_words(own.path, own.model), *rest]
    if own.epochs is not None:
        words += [f"--trainer.max_epochs={own.epochs}"]
    data = parse_data(expand_classes(_located(words)))
    if own.model == "av" and not any(clip.video for clip in data.rows):
        raise ConfigError(
            f"Bad --model av for {own.path}: none of its {len(data.rows)} clips has a video; use "
            "audio or small."
        )
    _prepare(data)
    if own.crossval:
        from avser.cli import crossval

        count = data.fold_count  # before the description: an automatic split is chosen by it
        print(f"split: {data.split.describe()}: {count} trainings")
        return crossval.run([*words, "--out", str(own.out), "--figures", own.figures])
    print("\n".join(split_lines(data)))
    from avser.cli import fit

    overwrite = ["--overwrite"] if own.overwrite else []
    code = fit.run([*words, "--out", str(own.out), "--figures", own.figures, *overwrite])
    print(f"Report: {own.out / 'report.html'}, figures: {own.out / 'figures'}/")
    print(f"Tables, as CSV and LaTeX: {own.out / 'tables'}/")
    print(f"Classify with it: avser classify CLIP --model {own.out}")
    return code


def _words(path: PurePath, model: str) -> list[str]:
    """Words of ``avser fit`` for a folder or CSV, and a model.

    Raises:
        CorpusError: there is no such file or folder.
        ConfigError: the file is no table, or there is no such model.
    """
    given = kind(path)
    if given is None:
        raise CorpusError(
            f"Bad path {path}: there is no such file or folder; give a CSV or a folder."
        )
    if given == "file" and path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise ConfigError(
            f"Bad path {path}: one recording can't train a model; give a folder of recordings, or "
            "a CSV with the columns path,emotion,speaker."
        )
    listed = given == "file" or kind(path / "manifest.csv") == "file"
    corpus = "manifest" if listed else "folders"
    words = ["-c", f"configs/data/{corpus}.yaml", "-c", _model_config(model)]
    words += ["--data.video=faces"] if model == "av" else []
    return [*words, f"--data.corpus.init_args.root={path}"]


def _model_config(model: str) -> str:
    if model in MODELS:
        return MODELS[model]
    if not model.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"Bad model {model!r}: expected one of {', '.join(MODELS)}, or a configuration such as "
            "configs/model/audio_stream.yaml."
        )
    return model


def _located(words: Sequence[str]) -> list[str]:
    """Replace names of configurations by their paths, as the parser of ``fit`` does."""
    before = ["", *words]
    return [
        locate(w) if b in ("-c", "--config") else w for b, w in zip(before, words, strict=False)
    ]


def _prepare(data: "LabelledDataModule") -> None:
    """Decode what is not yet in the cache; the training itself prints what was left out."""
    from avser.cli.progress import counting

    with counting("decoding") as progress:
        data.progress = progress
        _ = data.prepared
    data.prepare_data()


def split_lines(data: "LabelledDataModule") -> list[str]:
    """Lines that state the split, and clips, speakers and classes of each part."""
    parts: SplitParts = data.parts
    lines = [f"split: {data.split_description}, hash {parts.hash}"]
    for name, clips in parts.items():
        speakers = sorted({c.speaker.rpartition("/")[2] for c in clips if c.speaker})
        counts = Counter(data.labels(c.emotion) for c in clips)
        classes = ", ".join(f"{counts[name]} {name}" for name in data.classes if counts[name])
        of_whom = f" of {_names(speakers)}" if speakers else ""
        lines.append(f"  {name + ':':<12}{len(clips)} clips{of_whom} ({classes or 'none'})")
    return [*lines, *(f"  note: {note}" for note in parts.notes)]


def _names(speakers: Sequence[str], shown: int = 6) -> str:
    noun = "speaker" if len(speakers) == 1 else "speakers"
    more = f" and {len(speakers) - shown} more" if len(speakers) > shown else ""
    return f"{len(speakers)} {noun}: {', '.join(speakers[:shown])}{more}"
