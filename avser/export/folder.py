"""A folder that needs neither avser nor torch: model, runtime, example, card."""

from pathlib import Path

from avser.errors import ConfigError
from avser.export import runtime
from avser.export.onnx_file import AudioGraph
from avser.files import atomic_write

_EXAMPLE = '''\
"""python example.py clip.wav (16 kHz, mono, 16 bits); needs numpy and onnxruntime."""
import sys, wave
import numpy as np
from runtime import OnnxClassifier

with wave.open(sys.argv[1]) as file:
    samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / np.float32(32768)
answer = OnnxClassifier("model.onnx")(samples)
print(answer.label, answer.probabilities)
for step in answer.timeline:
    print(f"{step.start_s:6.2f} s  {step.label or 'silence'}")
'''


def save_folder(graph: AudioGraph, folder: str | Path, *, int8: bool = False) -> Path:
    """Write ``model.onnx``, ``runtime.py``, ``example.py`` and the model's card.

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
    claim_folder(folder, ("model.onnx", "runtime.py", "example.py", "README.md"))
    texts = {
        "runtime.py": Path(runtime.__file__).read_text(encoding="utf-8"),
        "example.py": _EXAMPLE,
        "README.md": graph.bundle.card or f"# {graph.bundle.name}\n",
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)
    return graph.save(folder / "model.onnx", int8=int8)


def claim_folder(folder: Path, names: tuple[str, ...]) -> None:
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
