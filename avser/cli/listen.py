"""``avser listen``: label a microphone or a file while it plays."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avser.export.runtime import OnnxStream
    from avser.inference.live import AudioSource, LivePrediction


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = argparse.ArgumentParser(
        prog="avser listen", description="Label a voice while it speaks, every 0.512 s."
    )
    p.add_argument(
        "source",
        nargs="?",
        metavar="FILE|-",
        help="a media file, played in real time; - for raw samples on standard input (16 bits, "
        "signed, little-endian, one channel, 16 kHz); the microphone by default",
    )
    p.add_argument(
        "--model", metavar="NAME|DIR|FILE.onnx", help="released model, bundle, run, or export"
    )
    p.add_argument("--device", metavar="NAME|NUMBER", help="microphone; the system's by default")
    p.add_argument(
        "--window",
        type=float,
        default=4.096,
        metavar="S",
        help="seconds that are heard at once by a model that can't stream (default 4.096)",
    )
    p.add_argument("--json", action="store_true", help="one JSON object a step, a line each")
    return p


def run(words: Sequence[str]) -> int:
    """Print a live line, or a line a step where the output is no terminal."""
    command = parser()
    own = command.parse_args(list(words))
    if not own.window > 0:
        command.error(f"--window {own.window:g} is not positive")
    if own.source is None:
        from avser.extras import require

        require("mic", "sounddevice")  # before the model is loaded
    stream, told = _stream(own.model, window_steps=max(1, round(own.window / 0.512)))
    from avser.inference.live import listen

    print(told, file=sys.stderr)
    try:
        for heard in listen(stream, _source(own)):
            _show(heard, as_json=own.json)
    except KeyboardInterrupt:
        pass  # how one stops a microphone
    if not own.json:
        if sys.stdout.isatty():
            print()
        _sum_up(stream)
    return 0


def _source(own: argparse.Namespace) -> "Iterable[AudioSource]":
    from avser.inference import live as listen

    if own.source == "-":
        return listen.from_pcm(sys.stdin.buffer)
    if own.source is not None:
        return listen.from_file(own.source)
    device = own.device
    return listen.from_microphone(int(device) if device and device.isdigit() else device)


def _stream(model: str | None, *, window_steps: int) -> "tuple[OnnxStream, str]":
    """Begin a stream; say with which model, and how much it hears."""
    if model is not None and Path(model).suffix == ".onnx":
        from avser.errors import BundleError
        from avser.export.runtime import OnnxClassifier
        from avser.extras import require

        require("onnx", "onnxruntime")
        try:
            file = OnnxClassifier(model)
        except ValueError as error:
            raise BundleError(str(error)) from error
        stream = file.stream(window_steps=window_steps)
        return stream, _told(Path(model).name, file.streaming, window_steps)
    import torch

    from avser.bundle import serialization as bundle
    from avser.inference.streaming import stream_of, streams

    torch.set_num_threads(1)  # a step is too little work to share
    # the most accurate voice, which hears a window: the released one that streams is far behind
    loaded = bundle.load(model or bundle.DEFAULT_MODEL)
    branch = loaded.net.audio_branch()
    stream = stream_of(branch, loaded.net.emotions, window_steps=window_steps)
    return stream, _told(loaded.name, streams(branch), window_steps)


def _told(name: str, streaming: bool, window_steps: int) -> str:
    if streaming:
        return f"{name}: each step is heard as it comes, after all that came before."
    return f"{name} can't stream: it hears the last {window_steps * 0.512:.1f} s at every step."


def _show(heard: "LivePrediction", *, as_json: bool) -> None:
    from avser.inference.live import line

    if as_json:
        print(json.dumps(heard.to_dict()), flush=True)
    elif sys.stdout.isatty():
        from shutil import get_terminal_size

        text = line(heard, width=get_terminal_size().columns - 1)
        print(f"\r{text}\x1b[K", end="", flush=True)
    else:
        print(line(heard), flush=True)


def _sum_up(stream: "OnnxStream") -> None:
    shares = stream.probabilities
    if shares is None:
        print("Nothing was heard.")
        return
    label = max(shares, key=lambda name: shares[name])
    print(f"At the end: {label} {shares[label]:.0%}")
