"""The C program for an exported voice: built and run where onnxruntime's C header is."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from avser.bundle import serialization as bundle
from avser.export.onnx_file import AudioGraph
from avser.export.runtime import OnnxClassifier
from avser.export.wav import read_wav
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle

pytestmark = pytest.mark.long
FOLDER = Path(__file__).parents[2] / "examples" / "c"
HEADER = "onnxruntime_c_api.h"
#: The wheel of onnxruntime holds the library and not the header: name its folder in this variable.
VARIABLE = "ONNXRUNTIME_INCLUDE"
USUAL = ("/usr/include", "/usr/local/include", "/usr/include/onnxruntime")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("there is no C compiler, or no make")
    places = (os.environ.get(VARIABLE, ""), *USUAL)
    include = next((p for p in places if p and Path(p, HEADER).is_file()), None)
    if include is None:
        pytest.skip(f"{HEADER} is in none of {', '.join(USUAL)}; name its folder in {VARIABLE}")
    capi = Path(onnxruntime.__file__).parent / "capi"
    library = next(iter(sorted(capi.glob("libonnxruntime.so.*"))), None)
    if library is None:
        pytest.skip(f"{capi} holds no libonnxruntime.so")
    folder = tmp_path_factory.mktemp("c")
    for name in ("classify.c", "Makefile"):
        shutil.copy(FOLDER / name, folder)
    (folder / "libonnxruntime.so.1").symlink_to(library)
    words = ["make", f"INCLUDE={include}", f"LIBRARY={folder / 'libonnxruntime.so.1'}"]
    warnings = "CFLAGS=-O2 -Wall -Wextra -Wpedantic -Werror"
    subprocess.run([*words, warnings], cwd=folder, check=True, capture_output=True)
    return folder / "classify"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return AudioGraph(bundle.load(tiny_bundle(folder / "tiny"))).save(folder / "voice.onnx")


def run(*words: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)


def test_the_program_prints_what_the_runtime_predicts(
    program: Path, model: Path, tmp_path: Path
) -> None:
    clip = write_wav(tmp_path / "clip.wav", voice("angry", seconds=2.3))
    expected = OnnxClassifier(model)(read_wav(clip).samples)
    assert expected.probabilities is not None
    first, *rows = run(program, model, clip).stdout.splitlines()
    assert first.split()[0] == expected.label
    printed = {name: float(share) for name, share in (row.split() for row in rows)}
    assert printed == pytest.approx(dict(expected.probabilities), abs=6e-4)
    silence = write_wav(tmp_path / "silence.wav", np.zeros(16_000, np.float32))
    assert run(program, model, silence).stdout == "no voice\n"


def test_the_program_refuses_in_one_sentence(program: Path, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    done = run(program, model, text)
    assert (done.returncode, done.stderr) == (1, "Bad clip: it is no wav file; convert it.\n")
    clip = write_wav(tmp_path / "clip.wav", voice("sad", seconds=1.0))
    done = run(program, text, clip)
    assert done.returncode == 1 and done.stderr.startswith("Bad model: ")
    assert run(program).returncode == 2
