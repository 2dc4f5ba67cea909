"""A page that runs the model in the visitor's own browser."""

import json
import shutil
import subprocess
import tarfile
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from avser import __version__
from avser.emotions import VOCABULARY
from avser.errors import ConfigError
from avser.export.folder import card_files, prepare_folder, save_card
from avser.export.onnx_file import AudioGraph
from avser.files import atomic_write
from avser.visualization.colours import COLOURS

ORT_WEB = "1.30.0"
#: What the page takes of onnxruntime-web's ``dist``, and under which name: the single-threaded use
#: of its wasm build. Names that every static server gives the right type.
_ORT = {"ort.wasm.bundle.min.mjs": "ort.js", "ort-wasm-simd-threaded.wasm": "ort.wasm"}
#: What of the page only a server uses.
_SERVER = ("server.js", "sample.mp4")
_LICENCE = """\
onnxruntime-web {version}, https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def save_page(
    graph: AudioGraph, folder: str | Path, *, int8: bool = True, ort: str | Path | None = None
) -> Path:
    """Write a static page with the model and the runtime that it needs.

    Args:
        graph: of the model; one for streams runs step by step, any other in a window.
        folder: new, empty, or written by this before.
        int8: store weights in 8 bits.
        ort: an unpacked npm package of onnxruntime-web; None fetches it with npm.

    Returns:
        Path of the page.

    Raises:
        ConfigError: the folder holds something else, or onnxruntime-web can't be downloaded.
    """
    folder = Path(folder)
    page = files("avser.export") / "page"
    names = sorted(file.name for file in page.iterdir() if file.name not in _SERVER)
    own = (*names, "settings.json", "model.onnx", "model.json", "ort", *card_files(graph.bundle))
    prepare_folder(folder, own)
    (folder / "ort").mkdir(exist_ok=True)
    with TemporaryDirectory() as temporary:
        package = _fetched(Path(temporary)) if ort is None else _given(Path(ort))
        for name, new in _ORT.items():
            shutil.copyfile(package / "dist" / name, folder / "ort" / new)
        version = _version(package)
    for name in names:
        with atomic_write(folder / name, mode="wb") as file:
            file.write((page / name).read_bytes())
    settings = {
        "backend": "browser",
        "version": __version__,
        "colours": dict(COLOURS),
        "emotions": list(VOCABULARY),
    }
    texts = {
        "settings.json": json.dumps(settings, indent=1),
        "model.json": json.dumps(graph.facts(int8=int8), indent=1),
        "ort/LICENSE": _LICENCE.format(version=version),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)
    save_card(graph.bundle, folder)
    graph.save(folder / "model.onnx", int8=int8)
    return folder / "index.html"


def _version(package: Path) -> str:
    try:
        content = json.loads((package / "package.json").read_text(encoding="utf-8"))
        return str(content["version"])
    except (OSError, ValueError, KeyError):
        return "of an unknown version"


def _given(folder: Path) -> Path:
    """The folder that holds ``dist``: the one given, or ``package`` in it as npm packs it."""
    for package in (folder, folder / "package", folder / "node_modules" / "onnxruntime-web"):
        if all((package / "dist" / name).is_file() for name in _ORT):
            return package
    raise ConfigError(
        f"Bad --ort {folder}: dist/{next(iter(_ORT))} is not in it; give the unpacked npm package "
        f"onnxruntime-web {ORT_WEB}."
    )


def _fetched(folder: Path) -> Path:
    """Fetch the package; npm checks its hash."""
    npm = shutil.which("npm")
    cure = f"give --ort DIR with the unpacked npm package onnxruntime-web {ORT_WEB}."
    if npm is None:
        raise ConfigError(f"Bad installation: npm is not there to fetch onnxruntime-web; {cure}")
    words = [npm, "pack", f"onnxruntime-web@{ORT_WEB}", "--silent"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    packed = next(folder.glob("onnxruntime-web-*.tgz"), None)
    if done.returncode or packed is None:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise ConfigError(f"Bad fetch of onnxruntime-web: npm reports {last!r}; {cure}")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return _given(folder)
