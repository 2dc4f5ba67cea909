"""``avser listen``: label live speech, or voice and face."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avser.cli.parser import CommandParser

if TYPE_CHECKING:
    from avser.inference.camera import CameraFrame
    from avser.inference.live import AudioBlock, LivePrediction

Shares = Mapping[str, float]

STEP_S = 0.512


def parser() -> CommandParser:
    """Return the command's parser."""
    p = CommandParser("listen", "Label live speech, or voice and face, every 0.512 s.")
    p.add_argument(
        "source",
        nargs="?",
        metavar="FILE|-",
        help="a media file, read in real time; - for raw samples on standard input (16 bits, "
        "signed, little-endian, one channel, 16 kHz) (default: the microphone)",
    )
    p.add_argument(
        "--model", metavar="NAME|DIR|FILE.onnx", help="released model, bundle, run, or export"
    )
    p.add_argument(
        "--microphone", metavar="NAME|NUMBER", help="recording device (default: the system's)"
    )
    p.add_argument(
        "--camera",
        nargs="?",
        const="0",
        metavar="NUMBER|FILE",
        help="voice and face: a camera (0 by default), or a video file, which gives the sound too",
    )
    p.add_argument(
        "--window",
        type=float,
        default=3.072,
        metavar="S",
        help="seconds of the sliding window of a model that keeps no state",
    )
    p.add_argument("--json", action="store_true", help="one JSON object a step, a line each")
    return p


@dataclass(frozen=True)
class _Model:
    """Predictions of a live source, and of a whole file, by the same model.

    Attributes:
        predict: gives the steps of a source of sound, or of sound and pictures.
        description: what a label uses, and what it costs.
        predict_file: probabilities of a whole file.
        last: probabilities of all sound so far.
    """

    predict: "Callable[[Any], Iterable[LivePrediction]]"
    description: str
    predict_file: Callable[[str], Shares | None]
    last: Callable[[], Shares | None]


def run(words: Sequence[str]) -> int:
    """Print a live line, or a line a step where the output is no terminal."""
    command = parser()
    own = command.parse_args(list(words))
    if not own.window > 0:
        command.error(f"--window {own.window:g} is not positive")
    film = own.camera if own.camera is not None and not own.camera.isdigit() else None
    if film is not None and own.source is not None:
        command.error(f"--camera {film} gives the sound too; leave {own.source} out")
    if own.source is None and film is None:
        from avser.extras import require

        require("mic", "sounddevice")  # before the model is loaded
    steps = max(1, round(own.window / STEP_S))
    model = _load(own.model, window_s=own.window) if own.camera is None else _both(own.model, steps)
    predictions = model.predict(_source(own, film))
    print(model.description, file=sys.stderr)
    file = film or (own.source if own.source != "-" else None)
    try:
        for prediction in predictions:
            _show(prediction, as_json=own.json)
    except KeyboardInterrupt:
        pass  # how one stops a microphone
    else:
        if file is not None and not own.json:
            _end_live_line()
            _summarise("Whole file", model.predict_file(file))
            return 0
    if not own.json:
        _end_live_line()
        _summarise("At the end", model.last())
    return 0


def _source(own: argparse.Namespace, film: str | None) -> "Iterable[AudioBlock | CameraFrame]":
    """Sound, or sound and pictures."""
    if own.camera is None:
        return _sound(own)
    from avser.inference.camera import from_camera, from_video

    if film is None:
        return from_camera(int(own.camera), _sound(own))
    return from_video(film)


def _sound(own: argparse.Namespace) -> "Iterable[AudioBlock]":
    from avser.inference import live

    if own.source == "-":
        return live.from_pcm(sys.stdin.buffer)
    if own.source is not None:
        return live.from_file(own.source)
    device = own.microphone
    return live.from_microphone(int(device) if device and device.isdigit() else device)


def _both(model: str | None, window_steps: int) -> _Model:
    """Load a model of voice and face."""
    from avser.errors import ConfigError

    if model is not None and Path(model).suffix == ".onnx":
        raise ConfigError(
            f"Bad --camera with {model}: an exported file reads sound alone; name a model, or "
            "leave --camera out."
        )
    from avser.inference.camera import watch
    from avser.inference.predictor import Predictor

    predictor = Predictor.from_pretrained(model)
    last: dict[str, Shares | None] = {"step": None}

    def predict(source: "Iterable[AudioBlock | CameraFrame]") -> "Iterator[LivePrediction]":
        return map(kept, watch(predictor, source, window_steps=window_steps))

    def kept(prediction: "LivePrediction") -> "LivePrediction":
        last["step"] = prediction.step.probabilities or last["step"]
        return prediction

    voice = f" and {predictor.voice.name}" if predictor.voice is not None else ""
    return _Model(
        predict,
        f"{predictor.name}{voice}: each label uses the last {window_steps * STEP_S:.1f} s of voice "
        "and face, computed anew each step.",
        lambda path: predictor(path).probabilities,
        lambda: last["step"],
    )


def _load(model: str | None, *, window_s: float) -> _Model:
    """Load a voice model and begin a stream."""
    if model is not None and Path(model).suffix == ".onnx":
        return _load_export(model, window_steps=max(1, round(window_s / STEP_S)))
    import torch

    from avser.bundle import serialization as bundle
    from avser.inference.live import listen
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
    return _Model(partial(listen, stream), text, predict_file, lambda: stream.probabilities)


def _load_export(file: str, *, window_steps: int) -> _Model:
    from avser.errors import BundleError
    from avser.export.runtime import OnnxClassifier
    from avser.extras import require
    from avser.inference.live import listen
    from avser.inference.streaming import step_cost_ms
    from avser.media.reader import read_audio

    require("onnx", "onnxruntime")
    try:
        classifier = OnnxClassifier(file)
    except ValueError as error:
        raise BundleError(str(error)) from error
    cost_ms = step_cost_ms(classifier.stream(window_steps=window_steps), steps=window_steps)
    stream = classifier.stream(window_steps=window_steps)
    return _Model(
        partial(listen, stream),
        _describe(Path(file).name, classifier.streaming, window_steps, cost_ms),
        lambda path: classifier(read_audio(path)).probabilities,
        lambda: stream.probabilities,
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
