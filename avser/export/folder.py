"""A folder that needs neither avser nor torch: model, runtime, wav reader, example, card."""

import re
import shutil
from importlib.resources import files
from pathlib import Path

from avser.bundle.serialization import Bundle
from avser.errors import ConfigError
from avser.export.detector import save_detector
from avser.export.onnx_file import AudioGraph
from avser.export.vendor import PACKAGE, renamed, save_package
from avser.export.video_file import VideoGraph
from avser.export.video_runtime import DETECTOR_FOLDER, MODEL_FILE
from avser.files import atomic_write

#: Files of this package that need numpy and onnxruntime alone; they are copied as they are.
STANDALONE = ("runtime.py", "wav.py", "example.py")

#: What the files of a folder for videos need.
VIDEO_NEEDS = ("numpy", "onnxruntime", "av", "opencv-python-headless", "scipy", "einops")

_NAMED_FILE = re.compile(r"`([\w-]+\.(?:txt|yaml|json|md))`")  # a file of the bundle, in a card


def save_folder(graph: AudioGraph, folder: str | Path, *, int8: bool = False) -> Path:
    """Write ``model.onnx``, `STANDALONE`, and the model's card with the files that it names.

    Args:
        graph: of the model.
        folder: new, empty, or written by this before.
        int8: store weights in 8 bits.

    Returns:
        Path of the model file.

    Raises:
        ConfigError: the folder holds something else.
    """
    folder = Path(folder)
    prepare_folder(folder, ("model.onnx", *STANDALONE, *card_files(graph.bundle)))
    for name in STANDALONE:
        with atomic_write(folder / name) as file:
            file.write((files("avser.export") / name).read_text("utf-8"))
    save_card(graph.bundle, folder)
    return graph.save(folder / "model.onnx", int8=int8)


def save_video_folder(graph: VideoGraph, folder: str | Path, *, int8: bool = False) -> Path:
    """Write a folder that classifies videos without torch and without avser.

    It holds ``model.onnx``, the face detector, the parts of avser that read files, an example,
    ``requirements.txt``, and the model's card with the files that it names.

    Args:
        graph: of the model.
        folder: new, empty, or written by this before.
        int8: store weights in 8 bits.

    Returns:
        Path of the model file.

    Raises:
        ConfigError: the folder holds something else.
    """
    folder = Path(folder)
    own = (MODEL_FILE, DETECTOR_FOLDER, PACKAGE, "example.py", "requirements.txt")
    prepare_folder(folder, (*own, *card_files(graph.bundle)))
    save_package(folder, "avser.export.video_runtime")
    save_detector(folder / DETECTOR_FOLDER)
    example = (files("avser.export") / "video_example.py").read_text("utf-8")
    texts = {"example.py": renamed(example), "requirements.txt": "\n".join(VIDEO_NEEDS) + "\n"}
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)
    save_card(graph.bundle, folder)
    return graph.save(folder / MODEL_FILE, int8=int8)


def card_files(bundle: Bundle) -> tuple[str, ...]:
    """Names of the files that `save_card` writes."""
    named = dict.fromkeys(_NAMED_FILE.findall(bundle.card))
    return ("README.md", *(name for name in named if (bundle.folder / name).is_file()))


def save_card(bundle: Bundle, folder: Path) -> None:
    """Write ``README.md``, and the bundle's files that its text names.

    What the text names must lie beside it: the speakers and recordings of the training.
    """
    readme, *others = card_files(bundle)
    with atomic_write(folder / readme) as file:
        file.write(bundle.card or f"# {bundle.name}\n")
    for name in others:
        shutil.copyfile(bundle.folder / name, folder / name)


def prepare_folder(folder: Path, names: tuple[str, ...]) -> None:
    """Make a folder, unless it holds anything but files of these names.

    Raises:
        ConfigError: it does.
    """
    if folder.is_file():
        raise ConfigError(f"Bad folder {folder}: it is a file; choose another name.")
    others = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    foreign = sorted(set(others) - set(names) - {"__pycache__"})
    if foreign:
        raise ConfigError(
            f"Bad folder {folder}: it holds {foreign[0]}, which is no part of an export; choose "
            "a new or an empty one."
        )
    folder.mkdir(parents=True, exist_ok=True)
