"""``avser listen``: label live speech."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avser.inference.live import AudioBlock, LivePrediction, SampleStream

Shares = Mapping[str, float]

STEP_S = 0.512


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = argparse.ArgumentParser(prog="avser listen", description="Label live speech every 0.512 s.")
    p.add_argument(
        "source",
        nargs="?",
        metavar="FILE|-",
        help="a media file, read in real time; - for raw samples on standard input (16 bits, "
        "signed, little-endian, one channel, 16 kHz); the microphone by default",
    )
    p.add_argument(
        "--model", metavar="NAME|DIR|FILE.onnx", help="released model, bundle, run, or export"
    )
    p.add_argument(
        "--microphone", metavar="NAME|NUMBER", help="recording device; the system's by default"
    )
    p.add_argument(
        "--window",
        type=float,
        default=3.072,
        metavar="S",
        help="seconds of the sliding window of a model that keeps no state (default 3.072)",
    )
    p.add_argument("--json", action="store_true", help="one JSON object a step, a line each")
    return p


@dataclass(frozen=True)
class _Model:
    """A stream, its description, and the prediction of a whole file by the same model."""

    stream: "SampleStream"
    description: str
    predict_file: Callable[[str], Shares | None]


def run(words: Sequence[str]) -> int:
    """Print a live line, or a line a step where the output is no terminal."""
    command = parser()
    own = command.parse_args(list(words))
    if not own.window > 0:
        command.error(f"--window {own.window:g} is not positive")
    if own.source is None:
        from avser.extras import require

        require("mic", "sounddevice")  # before the model is loaded
    model = _load(own.model, window_s=own.window)
    from avser.inference.live import listen

    print(model.description, file=sys.stderr)
    try:
        for prediction in listen(model.stream, _source(own)):
            _show(prediction, as_json=own.json)
    except KeyboardInterrupt:
        pass  # how one stops a microphone
    else:
        if own.source not in (None, "-") and not own.json:
            _end_live_line()
            _summarise("Whole file", model.predict_file(own.source))
            return 0
    if not own.json:
        _end_live_line()
        _summarise("At the end", model.stream.probabilities)
    return 0


def _source(own: argparse.Namespace) -> "Iterable[AudioBlock]":
    from avser.inference import live

    if own.source == "-":
        return live.from_pcm(sys.stdin.buffer)
    if own.source is not None:
        return live.from_file(own.source)
    device = own.microphone
    return live.from_microphone(int(device) if device and device.isdigit() else device)


def _load(model: str | None, *, window_s: float) -> _Model:
    """Load a model and begin a stream."""
    if model is not None and Path(model).suffix == ".onnx":
        return _load_export(model, window_steps=max(1, round(window_s / STEP_S)))
    import torch

    from avser.bundle import serialization as bundle
    from avser.inference.predictor import Predictor
    from avser.inference.streaming import StreamingPredictor

    torch.set_num_threads(1)  # a step is too little work to share
    # the most accurate voice, which needs a window: the released one that streams is far behind
    loaded = bundle.load(model or bundle.DEFAULT_MODEL)
    branch = loaded.net.audio_branch()
    stream = StreamingPredictor(branch, loaded.net.emotions, window_s=window_s)

    def predict_file(path: str) -> Shares | None:
        predictor = Predictor(loaded.net, name=loaded.name, device="cpu")
        return predictor(path, modality="audio").probabilities

    text = _describe(loaded.name, stream.causal, stream.window_steps, stream.cost_ms)
    return _Model(stream, text, predict_file)


def _load_export(file: str, *, window_steps: int) -> _Model:
    from avser.errors import BundleError
    from avser.export.runtime import OnnxClassifier
    from avser.extras import require
    from avser.inference.streaming import step_cost_ms
    from avser.media.reader import read_audio

    require("onnx", "onnxruntime")
    try:
        classifier = OnnxClassifier(file)
    except ValueError as error:
        raise BundleError(str(error)) from error
    cost_ms = step_cost_ms(classifier.stream(window_steps=window_steps), steps=window_steps)
    return _Model(
        classifier.stream(window_steps=window_steps),
        _describe(Path(file).name, classifier.streaming, window_steps, cost_ms),
        lambda path: classifier(read_audio(path)).probabilities,
    )


def _describe(name: str, streaming: bool, window_steps: int, cost_ms: float) -> str:
    """Describe what a label uses, and its computing time beside the 512 ms of a step."""
    cost = f"{cost_ms:.1f} ms a label, {cost_ms / STEP_S / 10:.1f} % of the time of a step"
    if streaming:
        return f"{name}: each label uses all sound so far ({cost})."
    window_s = window_steps * STEP_S
    return f"{name}: each label uses the last {window_s:.1f} s, computed anew each step ({cost})."


def _show(prediction: "LivePrediction", *, as_json: bool) -> None:
    from avser.cli.progress import encodes
    from avser.inference.live import format_step

    ascii_only = not encodes("▕█▏▁", sys.stdout.encoding)
    if as_json:
        print(json.dumps(prediction.to_dict()), flush=True)
    elif sys.stdout.isatty():
        from shutil import get_terminal_size

        width = get_terminal_size().columns - 1
        text = format_step(prediction, width=width, ascii_only=ascii_only)
        print(f"\r{text}\x1b[K", end="", flush=True)
    else:
        print(format_step(prediction, ascii_only=ascii_only), flush=True)


def _end_live_line() -> None:
    if sys.stdout.isatty():
        print()


def _summarise(what: str, shares: Shares | None) -> None:
    """Print the label of all sound."""
    from avser.cli.results import percent

    if shares is None:
        print("There was no voice.")
        return
    label = max(shares, key=lambda name: shares[name])
    print(f"{what}: {label} {percent(shares[label])}")
