"""``avser export``: write a model for other runtimes."""

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from avser.cli.config import Parser
from avser.errors import ConfigError
from avser.evaluation.numbers import format_figure
from avser.visualization.numbers import format_share

if TYPE_CHECKING:
    from avser.bundle.serialization import Bundle
    from avser.export.onnx_file import AudioGraph, Difference

MODALITIES = ("audio", "video", "both")

_MOST_LOST = 0.01  # of UAR, by rounding


def parser() -> Parser:
    """Return the command's parser."""
    p = Parser(
        "export",
        "Write a model for other runtimes, from raw 16 kHz samples, face crops, or both, to "
        "calibrated probabilities. With -c DATA.yaml or --corpus, measure the file too; "
        "any setting "
        "of the data may follow.",
    )
    p.add_argument("--model", metavar="NAME|DIR", help="released model, bundle, or run folder")
    p.add_argument(
        "--out",
        metavar="FILE.onnx|FILE.pt2|DIR/",
        help="an ONNX file; a file of torch.export; or a folder with model.onnx, the runtime and "
        "an example, which needs no torch",
    )
    p.add_argument(
        "--modality",
        choices=MODALITIES,
        help="branch to write (default: both of a model that judges faces, else audio)",
    )
    p.add_argument(
        "--space",
        metavar="DIR",
        type=Path,
        help="instead: a folder that is a Space, the page of avser serve with this model",
    )
    p.add_argument(
        "--web",
        metavar="DIR",
        type=Path,
        help="instead: a static page that runs the model in its visitor's own browser (8-bit "
        "weights; a model that streams runs step by step)",
    )
    p.add_argument(
        "--ort",
        metavar="DIR",
        type=Path,
        help="for --web, where npm is missing: the unpacked npm package onnxruntime-web",
    )
    p.add_argument("--int8", action="store_true", help="store the weights in 8 bits")
    p.add_argument(
        "--streaming",
        action="store_true",
        help="write a graph for streams: a step of 8,192 samples and a state in, probabilities "
        "and the next state out",
    )
    p.add_argument("--quick", action="store_true", help="do not compare the file with PyTorch")
    return p


def run(words: Sequence[str]) -> int:
    """Write what is asked for, and print its size and how far it is from PyTorch."""
    command = parser()
    own, rest = command.split(words)
    if own.space is not None:
        if own.out is not None or own.config or own.int8 or own.streaming:
            command.error("--space takes --model alone")
        return _space(own)
    if own.web is not None:
        if own.out is not None or own.config or own.streaming:
            command.error("--web takes --model and --ort alone")
        return _web(own)
    if own.out is None:
        command.error("give --out FILE.onnx, FILE.pt2 or DIR/; or --space or --web DIR")
    own.out = _target(own.out)
    if own.config and (own.streaming or own.out.suffix == ".pt2"):
        command.error("-c measures ONNX files for whole clips; leave it out here")
    if own.modality in ("video", "both") and own.out.suffix == ".pt2":
        command.error("a .pt2 file has the audio branch alone; leave --modality out here")
    if own.int8 and own.out.suffix == ".pt2":
        command.error("--int8 is for ONNX files; leave it out here")
    if rest and not own.config:
        command.error(f"unknown words without -c DATA.yaml: {' '.join(rest)}")
    from avser.bundle import serialization as bundle
    from avser.extras import require

    if own.out.suffix == ".pt2":
        from avser.export.pt2 import save_pt2

        path = save_pt2(bundle.load(own.model), own.out, streaming=own.streaming)
        print(f"{path}: {path.stat().st_size:,} bytes")
        return 0
    require("onnx", "onnx", "onnxscript", "onnxruntime")
    loaded = bundle.load(own.model)
    branch = _branch(loaded, own)
    return _onnx(loaded, own, rest) if branch == "audio" else _video(loaded, own, branch)


def _target(name: str) -> Path:
    """The path of ``--out``: its suffix decides what is written.

    Raises:
        ConfigError: the suffix is of another format.
    """
    path = Path(name)
    folder = name.endswith(("/", os.sep)) or path.is_dir() or not path.suffix
    if not folder and path.suffix not in (".onnx", ".pt2"):
        raise ConfigError(
            f"Bad --out {name}: {path.suffix} can't be written; expected .onnx or .pt2, or a "
            f"folder, whose name ends in / (--out {name}/)."
        )
    return path


def _space(own: argparse.Namespace) -> int:
    from avser.bundle import serialization as bundle
    from avser.extras import require
    from avser.web.space import write_space

    require("web", "fastapi", "uvicorn", "websockets", "multipart")
    folder = write_space(bundle.load(own.model or bundle.default()), own.space)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: a Space, {size / 1e6:.1f} MB; here: cd {folder} && python app.py")
    return 0


def _web(own: argparse.Namespace) -> int:
    from avser.bundle import serialization as bundle
    from avser.extras import require

    require("onnx", "onnx", "onnxscript", "onnxruntime")
    from avser.export.onnx_file import AudioGraph
    from avser.export.page_folder import save_page
    from avser.inference.streaming import is_causal

    loaded = bundle.load(own.model)
    graph = AudioGraph(loaded, streaming=is_causal(loaded.net.audio_branch()))
    page = save_page(graph, own.web, ort=own.ort)
    size = sum(path.stat().st_size for path in page.parent.rglob("*") if path.is_file())
    print(f"{page}: {size / 1e6:.1f} MB in all; here: python -m http.server -d {page.parent}")
    return 0


def _branch(loaded: "Bundle", own: argparse.Namespace) -> str:
    """The branch to write.

    Raises:
        ConfigError: it can't be measured or stream.
    """
    from avser.export.video_file import has_faces

    audio_only = own.streaming or bool(own.config)
    if audio_only and own.modality in ("video", "both"):
        raise ConfigError(
            f"Bad --modality {own.modality}: --streaming and -c are for the audio branch; leave "
            "them out, or give --modality audio."
        )
    whole = "both" if loaded.net.audio is not None else "video"
    return own.modality or (whole if has_faces(loaded.net) and not audio_only else "audio")


def _video(loaded: "Bundle", own: argparse.Namespace, branch: str) -> int:
    """Write a model that judges faces, and compare it with PyTorch."""
    from avser.export.folder import save_video_folder
    from avser.export.onnx_file import MOST_APART, summary
    from avser.export.video_file import VideoGraph, video_differences
    from avser.export.video_runtime import OnnxVideoNet

    if branch == "both" and loaded.net.audio is None:
        raise ConfigError(
            f"Bad --modality both: model {loaded.name} has no audio branch; give video."
        )
    graph = VideoGraph(loaded, branch="both" if branch == "both" else "video")
    save = graph.save if own.out.suffix == ".onnx" else partial(save_video_folder, graph)
    path = save(own.out, int8=own.int8)
    print(f"{path}: {path.stat().st_size:,} bytes")
    print(summary(OnnxVideoNet(path).metadata))
    if own.quick:
        return 0
    rows = video_differences(loaded.net, path)
    print("largest difference from PyTorch, of probabilities:")
    _print(rows)
    if own.int8 or max(max(d.clip, d.step) for d in rows) <= MOST_APART:
        return 0
    print(f"The file is more than {MOST_APART:g} from PyTorch.")
    return 1


def _onnx(loaded: "Bundle", own: argparse.Namespace, rest: list[str]) -> int:
    from avser.export.folder import save_folder
    from avser.export.onnx_file import AudioGraph, summary
    from avser.export.runtime import OnnxClassifier

    graph = AudioGraph(loaded, streaming=own.streaming)
    save = graph.save if own.out.suffix == ".onnx" else partial(save_folder, graph)
    path = save(own.out, int8=own.int8)
    print(f"{path}: {path.stat().st_size:,} bytes")
    print(summary(OnnxClassifier(path).metadata))
    fine = own.quick or _compared(loaded, path, own)
    if own.config:
        fine = _measured(loaded, graph, path, own, rest) and fine
    return 0 if fine else 1


def _compared(loaded: "Bundle", path: Path, own: argparse.Namespace) -> bool:
    """Print how far a file is from PyTorch; return whether that is as little as it should be."""
    from avser.export.onnx_file import MOST_APART, differences, stream_differences

    compare = stream_differences if own.streaming else differences
    result = compare(loaded.net.audio_branch(), path)
    what = "whole clips in PyTorch, fed step by step" if own.streaming else "PyTorch"
    print(f"largest difference from {what}, of probabilities:")
    _print(result)
    if own.int8 or max(max(d.clip, d.step) for d in result) <= MOST_APART:
        return True
    print(f"The file is more than {MOST_APART:g} from PyTorch.")
    return False


def _print(result: "Sequence[Difference]") -> None:
    print("  clips  seconds     clip     step")
    for row in result:
        print(f"  {row.clips:5}  {row.seconds:7.1f}  {row.clip:.1e}  {row.step:.1e}")


def _measured(
    loaded: "Bundle", graph: "AudioGraph", path: Path, own: argparse.Namespace, rest: list[str]
) -> bool:
    """Print the UAR of the file on a validation part, and of the float file beside it."""
    from avser.cli.config import parse_data
    from avser.errors import SplitError
    from avser.evaluation.summary import SEEN_SPEAKERS
    from avser.export.measure import file_uar

    data = parse_data(rest)
    clips = data.parts.validation
    if not clips:
        raise SplitError(f"Bad split: {data.split.name} has no validation part.")
    seen = {c.speaker for c in clips} & set(loaded.provenance.speakers)
    mark = f"  {SEEN_SPEAKERS}" if seen else ""
    print(f"UAR on {len(clips)} clips, {data.split_description}, validation part{mark}:")
    figures = {"int8" if own.int8 else "float": file_uar(path, data.loader(clips), data.classes)}
    if own.int8:
        with TemporaryDirectory() as folder:
            plain = graph.save(Path(folder) / "float.onnx")
            figures["float"] = file_uar(plain, data.loader(clips), data.classes)
    for name in sorted(figures):
        print(f"  {name:5}  {format_figure(figures[name])}")
    if not own.int8:
        return True
    lost = figures["float"] - figures["int8"]
    change = format_share(lost, sign=True)
    print(f"  lost   {change}  (8-bit weights need no ranges: nothing was calibrated)")
    if lost > _MOST_LOST:
        print(f"The loss is more than {_MOST_LOST}; ship the float file.")
    return lost <= _MOST_LOST
