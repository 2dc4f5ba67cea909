"""Exported voice and face networks against PyTorch, the voice also against wav2vec2-base's size.

Each is run in processes of its own with one thread. The encoder has random weights: they cost what
trained ones cost. ``python -m benchmarks.export KIND FILE`` measures one and prints JSON.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.measure import ROOT, Goal, Report, Row, child, in_turn, medians, thread_environment
from benchmarks.memory import status_mb

if TYPE_CHECKING:
    from avser.bundle.serialization import Bundle

FULL = {"seconds": 3.5, "repeats": 40, "rounds": 3, "layers": 12}
QUICK = {"seconds": 1.0, "repeats": 2, "rounds": 1, "layers": 1}
#: Size and layers of Whisper's encoder, and the most milliseconds a second of sound.
WHISPER = {"whisper_tiny": ("tiny", 3, 2.5), "whisper_base": ("base", 4, 4.5)}
ONNX = ("int8", "float", "two_channel", *WHISPER)
MOST_MS = 1.0
MOST_KB = 500.0
SMALL_MODEL = "audio_small.multi"
FASTER = 50.0
KINDS = (*ONNX, "torch", "wav2vec2")
#: The face network of the audio-visual model, on so many crops at once.
FACE_MODEL, FACE_CROPS, MOST_FACE_MS = "av.multi", 8, 6.0
FACES = ("face_int8", "face_torch")
TWO_CHANNEL = ROOT / "configs" / "model" / "audio_two_channel.yaml"
NAMES = {
    "int8": "ONNX int8",
    "two_channel": "two-channel encoder, ONNX int8",
    "float": "ONNX float",
    "whisper_tiny": "3 layers of Whisper tiny, ONNX int8",
    "whisper_base": "4 layers of Whisper base, ONNX int8",
    "torch": "PyTorch eager",
    "wav2vec2": "wav2vec2-base-sized classifier",
    "face_int8": "face network, ONNX int8",
    "face_torch": "face network, PyTorch eager",
}


def answering(kind: str, file: str, *, layers: int) -> Callable[[Any], object]:
    """Load a model; return what answers for samples ``[S]``."""
    if kind in ONNX:
        from avser.export.runtime import OnnxClassifier

        return OnnxClassifier(file)
    import torch

    torch.set_num_threads(1)
    if kind == "torch":
        from avser.bundle import serialization as bundle

        branch = bundle.load(file).net.audio_branch()

        def avser(wave: Any) -> object:  # noqa: ANN401
            with torch.inference_mode():
                return branch(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))

        return avser
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    config = Wav2Vec2Config(num_hidden_layers=layers, num_labels=8)
    model = Wav2Vec2ForSequenceClassification(config).eval()

    def usual(wave: Any) -> object:  # noqa: ANN401
        with torch.inference_mode():
            return model(torch.from_numpy(wave)[None]).logits.softmax(dim=-1)

    return usual


def answering_faces(kind: str, file: str) -> Callable[[], object]:
    """Load a face network; return what answers for `FACE_CROPS` crops."""
    import numpy as np

    from avser.media.faces.collect import SIZE

    shape = (1, FACE_CROPS // 2, 2, 3, SIZE, SIZE)
    faces = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    shown = np.ones(shape[:3], np.bool_)
    if kind == "face_int8":
        from avser.export.video_runtime import OnnxVideoNet

        net = OnnxVideoNet(file)
        none = np.zeros((1, 0), np.float32), np.zeros(1, np.int64)
        return lambda: net(*none, faces, shown)
    import torch

    from avser.bundle import serialization as bundle
    from avser.types import audio_batch

    torch.set_num_threads(1)
    encoder = bundle.load(file).net.video
    batch = audio_batch(torch.zeros(1, 0), torch.zeros(1, dtype=torch.int64))
    batch["faces"], batch["face_mask"] = torch.from_numpy(faces), torch.from_numpy(shown)
    if encoder is None:
        raise ValueError(f"{file} has no video branch")

    def avser() -> object:
        with torch.inference_mode():
            return encoder(batch)

    return avser


def run(kind: str, file: str, *, seconds: float, repeats: int, layers: int) -> dict[str, float]:
    """Answer so many times; processor time in ms a second of sound or a crop, and memory."""
    import numpy as np

    if kind in FACES:
        answer, amount = answering_faces(kind, file), float(FACE_CROPS)
    else:
        wave = (0.1 * np.random.default_rng(0).standard_normal(round(seconds * 16_000))).astype(
            "f4"
        )
        answer, amount = partial(answering(kind, file, layers=layers), wave), seconds
    answer()
    times = []
    for _ in range(repeats):
        start = time.process_time()  # of one thread: other programs change it less
        answer()
        times.append(time.process_time() - start)
    result = {"peak_mb": status_mb("VmHWM") or 0.0}
    return result | ({"ms": 1000 * median(times) / amount} if times else {})


def measure(*, seconds: float, repeats: int, rounds: int, layers: int) -> Report:
    """Export the default voice, and measure it and its alternatives in turn."""
    from avser.bundle import serialization as bundle
    from avser.export.onnx_file import AudioGraph
    from avser.export.video_file import VideoGraph

    loaded = bundle.load(SMALL_MODEL)
    with TemporaryDirectory() as temporary:
        graph = AudioGraph(loaded)
        files = {
            "float": str(graph.save(Path(temporary) / "float.onnx")),
            "int8": str(graph.save(Path(temporary) / "int8.onnx", int8=True)),
            "two_channel": str(
                AudioGraph(two_channel()).save(Path(temporary) / "two.onnx", int8=True)
            ),
            "torch": SMALL_MODEL,
            "wav2vec2": "none",
            "face_torch": FACE_MODEL,
        }
        face = VideoGraph(bundle.load(FACE_MODEL), branch="video")
        files["face_int8"] = str(face.save(Path(temporary) / "face.onnx", int8=True))
        for kind, (size, depth, _) in WHISPER.items():
            net = whisper(size, layers=min(depth, layers))  # fewer in a quick run
            path = Path(temporary) / f"{kind}.onnx"
            files[kind] = str(AudioGraph(net).save(path, int8=True))
        result: dict[str, list[dict[str, Any]]] = {k: [] for k in (*KINDS, *FACES)}
        for _ in range(rounds):
            for kind in result:
                words = (kind, files[kind], seconds, repeats, layers)
                result[kind].append(child("export", *words, count=1))
        cold = medians(
            in_turn(
                {k: _cold(k, files[k], seconds, layers) for k in KINDS}, repeats=rounds, warm=False
            )
        )
        sizes = {k: Path(files[k]).stat().st_size / 1e3 for k in ONNX}
    sizes["torch"] = next(loaded.folder.glob("*.safetensors")).stat().st_size / 1e3
    sizes["wav2vec2"] = _parameters(layers) * 4 / 1e3
    best = {k: {n: median(r[n] for r in rows) for n in rows[0]} for k, rows in result.items()}
    return Report(
        "export: voice and face as files",
        f"{SMALL_MODEL}, clip of {seconds:g} s, 1 thread, processor time; a process each; median "
        f"of {repeats} answers and {rounds} processes; wav2vec2 of {layers} layers, random weights",
        rows(best, cold, sizes),
    )


def two_channel() -> "Bundle":
    """The two-channel encoder with random weights, which cost what trained ones cost."""
    import yaml

    from avser.bundle.serialization import Bundle
    from avser.models.factory import build_net

    model = yaml.safe_load(TWO_CHANNEL.read_text(encoding="utf-8"))["model"]
    net = build_net({slot: model[slot] for slot in ("audio", "head")}, list("abcdefgh")).eval()
    return Bundle(name="two-channel", folder=Path(), net=net, config={})


def whisper(size: str, *, layers: int) -> "Bundle":
    """Frozen layers of Whisper's encoder with random weights and a linear head."""
    from avser.bundle.serialization import Bundle
    from avser.models.factory import build_net

    kept = {"size": size, "layers": layers, "join": [layers]}
    kind = "avser.models.encoders.whisper.WhisperEncoder"
    spec = {
        "audio": {"class_path": kind, "init_args": kept},
        "head": {"class_path": "avser.models.heads.LinearHead"},
    }
    net = build_net(spec, list("abcdefg")).eval()
    return Bundle(name=f"whisper-{size}", folder=Path(), net=net, config={})


def _cold(kind: str, file: str, seconds: float, layers: int) -> Callable[[], object]:
    """A process that loads a model and answers once."""
    words = [sys.executable, "-m", "benchmarks.export", kind, file, str(seconds), "0", str(layers)]
    settings = {"cwd": ROOT, "env": thread_environment(1), "stdout": subprocess.DEVNULL}
    return lambda: subprocess.run(words, check=True, stderr=subprocess.DEVNULL, **settings)


def _parameters(layers: int) -> int:
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    model = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(num_hidden_layers=layers))
    return sum(p.numel() for p in model.parameters())


def rows(
    result: Mapping[str, Mapping[str, float]],
    cold: Mapping[str, float],
    sizes: Mapping[str, float],
) -> list[Row]:
    """Compare: milliseconds a second of sound, memory in MB, cold start in s, size in KB."""
    made = []
    for kind in ONNX:
        ms, unit = result[kind]["ms"], "ms per s of sound"
        shipped = kind in ("int8", "float")  # the goals are the shipped model's
        most = WHISPER[kind][2] if kind in WHISPER else MOST_MS if shipped else None
        goal = None if most is None else Goal("at most", most)
        made.append(_row(kind, "torch", ms, result["torch"]["ms"], unit, goal))
        goal = Goal("ratio", FASTER) if shipped else None
        made.append(_row(kind, "wav2vec2", ms, result["wav2vec2"]["ms"], unit, goal))
    goals = {"int8": Goal("at most", MOST_KB)}
    for kind in ONNX:
        goal = goals.get(kind)
        for other in ("torch", "wav2vec2"):
            made.append(_row(kind, other, sizes[kind], sizes[other], "KB in files", goal))
            goal = None
    for other in ("torch", "wav2vec2"):
        peaks = result["int8"]["peak_mb"], result[other]["peak_mb"]
        made.append(_row("int8", other, *peaks, "MB at most, whole process", None))
    for other in ("torch", "wav2vec2"):
        unit = "s from start to first answer"
        made.append(_row("int8", other, cold["int8"], cold[other], unit, None))
    if set(FACES) <= set(result):
        ours, other = (result[kind]["ms"] for kind in FACES)
        goal = Goal("at most", MOST_FACE_MS)
        made.append(_row(*FACES, ours, other, "ms per face crop", goal))
    return made


def _row(kind: str, other: str, value: float, against: float, unit: str, goal: Goal | None) -> Row:
    return Row(
        ours=NAMES[kind], value=value, unit=unit, alternative=NAMES[other], other=against, goal=goal
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one in this process; print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("kind", choices=(*KINDS, *FACES))
    parser.add_argument("file", help="ONNX file, or name of a model")
    parser.add_argument("seconds", type=float)
    parser.add_argument("repeats", type=int)
    parser.add_argument("layers", type=int)
    own = parser.parse_args(arguments)
    settings = {"seconds": own.seconds, "repeats": own.repeats, "layers": own.layers}
    print(json.dumps(run(own.kind, own.file, **settings)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
