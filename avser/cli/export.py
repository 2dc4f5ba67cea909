"""``avser export``: write a model for other runtimes."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avser.bundle import Bundle
    from avser.export.onnx_file import Difference


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = argparse.ArgumentParser(
        prog="avser export",
        description="Write the voice half of a model as an ONNX file, from raw 16 kHz samples to "
        "calibrated probabilities.",
    )
    p.add_argument("--model", metavar="NAME|DIR", help="released model, bundle, or run folder")
    p.add_argument("--out", metavar="FILE.onnx", type=Path, help="the file to write")
    p.add_argument("--int8", action="store_true", help="store the weights in 8 bits")
    p.add_argument("--quick", action="store_true", help="do not compare the file with PyTorch")
    return p


def run(words: Sequence[str]) -> int:
    """Write the file, and print its size and how far it is from PyTorch."""
    command = parser()
    own = command.parse_args(list(words))
    if own.out is None:
        command.error("give --out FILE.onnx")
    from avser import bundle
    from avser.extras import require

    require("onnx", "onnx", "onnxscript", "onnxruntime")
    loaded = bundle.load(own.model)
    return _onnx(loaded, own)


def _onnx(loaded: "Bundle", own: argparse.Namespace) -> int:
    from avser.export.onnx_file import MOST_APART, VoiceGraph, differences, summary
    from avser.runtime import OnnxClassifier

    path = VoiceGraph(loaded).save(own.out, int8=own.int8)
    print(f"{path}: {path.stat().st_size:,} bytes")
    print(summary(OnnxClassifier(path).metadata))
    if own.quick:
        return 0
    found = differences(loaded.net.audio_branch(), path)
    _print(found)
    if own.int8 or max(max(d.clip, d.step) for d in found) <= MOST_APART:
        return 0
    print(f"The file is more than {MOST_APART:g} from PyTorch.")
    return 1


def _print(found: "Sequence[Difference]") -> None:
    print("largest difference from PyTorch, of probabilities:")
    print("  clips  seconds     clip     step")
    for row in found:
        print(f"  {row.clips:5}  {row.seconds:7.1f}  {row.clip:.1e}  {row.step:.1e}")
