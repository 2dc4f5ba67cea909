"""Functions and files between a command and its result: ``python -m benchmarks trace``.

Counts functions of ``avser/`` and ``datamodules/`` that are entered, the files that they are in,
and moves: calls from one function into a function of another file, each pair counted once. A
reader who follows the code must follow these, and come back from each.
"""

import inspect
import io
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType

import avser

HOME = Path(avser.__file__).resolve().parents[1]
TOPS = tuple(str(HOME / top) + "/" for top in ("avser", "datamodules"))
MODEL = "av_jca.ravdess_fer2013"  # a default model would change what is compared
SAMPLE = HOME / "examples" / "sample.mp4"
FIT = (
    "--trainer.accelerator=cpu --trainer.max_epochs=1 --trainer.limit_train_batches=1 "
    "--trainer.limit_val_batches=1 --trainer.enable_progress_bar=false --data.batch_size=4"
).split()


@dataclass
class Counts:
    """Code that ran while one phase was open."""

    functions: set[CodeType] = field(default_factory=set)
    moves: set[tuple[CodeType, CodeType]] = field(default_factory=set)

    def enter(self, code: CodeType, caller: CodeType | None) -> None:
        """Count one call."""
        self.functions.add(code)
        if caller is not None and file_of(caller) != file_of(code):
            self.moves.add((caller, code))

    def to_dict(self) -> dict[str, int]:
        """The three figures."""
        files = {file_of(code) for code in self.functions}
        return {"functions": len(self.functions), "files": len(files), "moves": len(self.moves)}


def file_of(code: CodeType) -> str:
    """Path of a function's file, links followed."""
    return str(Path(code.co_filename).resolve())


def is_ours(code: CodeType) -> bool:
    """Whether a function of the project: no module, class body or comprehension."""
    function = code.co_flags & inspect.CO_NEWLOCALS and not code.co_name.startswith("<")
    return bool(function) and file_of(code).startswith(TOPS)


@contextmanager
def profiled(
    call: Callable[[CodeType, CodeType | None], None], end: Callable[[CodeType], None]
) -> Iterator[None]:
    """Report every call of the project's functions, with the caller, and every return."""
    ours: dict[CodeType, bool] = {}

    def known(code: CodeType) -> bool:
        if code not in ours:
            ours[code] = is_ours(code)
        return ours[code]

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event not in ("call", "return") or not known(frame.f_code):
            return
        if event == "return":
            end(frame.f_code)
            return
        caller = frame.f_back
        while caller is not None and not known(caller.f_code):
            caller = caller.f_back
        call(frame.f_code, caller.f_code if caller else None)

    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def training() -> dict[str, dict[str, int]]:
    """Trace ``avser fit``: until the first forward pass, and one training step."""
    from avser.cli import main
    from avser.testing.corpora import FAKES

    before, step = Counts(), Counts()
    state = {"forward": False, "step": 0, "done": False}

    def call(code: CodeType, caller: CodeType | None) -> None:
        name = code.co_qualname
        state["forward"] = state["forward"] or name == "EmotionNet.forward"
        if not state["forward"]:
            before.enter(code, caller)
        if name == "EmotionTask.training_step":
            state["step"] += 1
        if state["step"] == 1 and not state["done"]:
            step.enter(code, caller)

    def end(code: CodeType) -> None:
        state["done"] = state["done"] or code.co_qualname == "EmotionTask.training_step"

    with tempfile.TemporaryDirectory() as folder:
        root = FAKES["ravdess"](Path(folder) / "ravdess", speakers=6, per_emotion=1)
        words = ["fit", "-c", "configs/data/ravdess.yaml", "-c", "configs/model/audio_crnn.yaml"]
        words += ["--root", str(root), *FIT, "--out"]
        with redirect_stdout(io.StringIO()):
            main([*words, str(Path(folder) / "imports")])  # of modules that are imported late
            with profiled(call, end):
                code = main([*words, str(Path(folder) / "run")])
    if code or not state["done"]:
        raise RuntimeError(f"Bad trace: avser fit ended with {code} before a training step.")
    return {
        "`fit` until the first forward pass": before.to_dict(),
        "one training step": step.to_dict(),
    }


def classification() -> dict[str, dict[str, int]]:
    """Trace one clip with voice and face through a predictor that is loaded."""
    from avser import Predictor

    predictor = Predictor.from_pretrained(MODEL, device="cpu")
    predictor(str(SAMPLE))  # what only the first clip does is no part of a clip's way
    counts = Counts()
    with profiled(counts.enter, lambda _: None):
        predictor(str(SAMPLE))
    return {"one classified clip": counts.to_dict()}


def main(arguments: Sequence[str] = ()) -> int:
    """Print the table; with a path, also keep it there as ``after`` beside what is there."""
    table = training() | classification()
    print("| way | functions | files | moves |\n|---|---|---|---|")
    for way, row in table.items():
        print(f"| {way} | {row['functions']} | {row['files']} | {row['moves']} |")
    if arguments:
        path = Path(arguments[0])
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        text = json.dumps({**kept, "after": table}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
