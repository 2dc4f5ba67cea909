"""The page in a real browser: Chromium driven by Playwright, its microphone fed from a file."""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Bundle
from avser.errors import ConfigError
from avser.export.onnx_file import AudioGraph
from avser.export.page_folder import save_page
from avser.export.runtime import OnnxClassifier
from avser.inference.predictor import Predictor
from avser.media.reader import read_audio
from avser.models.heads import AttentiveHead
from avser.models.net import EmotionNet
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_audio_encoder

pytestmark = pytest.mark.long
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
MOST_MS = 512.0  # a step lasts as long; a quiet machine takes below 50, which is printed


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    samples = voice("angry", speaker="3", seconds=3.3, sample_rate=16_000, seed=1)
    return write_wav(path, np.concatenate([samples, np.zeros(4000, np.float32)]))


def page_of(graph: AudioGraph, folder: Path) -> Path:
    try:
        return save_page(graph, folder, ort=os.environ.get("ORT_WEB")).parent
    except ConfigError as error:
        pytest.skip(f"onnxruntime-web can't be had here: {error}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released audio model, for whole clips."""
    graph = AudioGraph(bundle.load(bundle.DEFAULT_MODEL))
    return page_of(graph, tmp_path_factory.mktemp("page") / "whole")


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal audio model, which carries its state."""
    encoder = tiny_audio_encoder(causal=True)
    net = EmotionNet(audio=encoder, head=AttentiveHead(hidden=8), emotions=("a", "b", "c")).eval()
    graph = AudioGraph(Bundle(name="tiny", folder=Path(), net=net, config={}), streaming=True)
    return page_of(graph, tmp_path_factory.mktemp("page") / "stream")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@contextmanager
def opened(folder: Path, profile: Path, *flags: str) -> Iterator[tuple[Any, list[str], list[str]]]:
    """The page, ready; every address that was asked for, and every error in the console."""
    api = pytest.importorskip("playwright.sync_api")
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"{CHROMIUM} is not there; name another in CHROMIUM")
    with served(folder) as address, api.sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=CHROMIUM,
            args=[*FLAGS, *flags],
            permissions=["microphone"],
            viewport={"width": 900, "height": 900},
        )
        asked: list[str] = []
        errors: list[str] = []
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        yield page, asked, errors
        assert all(url.startswith((address, "data:", "blob:")) for url in asked), asked
        browser.close()


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_a_file_gets_the_label_that_python_gives(
    kind: str, request: pytest.FixtureRequest, clip: Path, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(kind)
    prediction = OnnxClassifier(folder / "model.onnx")(read_audio(clip))
    assert prediction.probabilities is not None and prediction.label is not None
    if kind == "whole":  # the page is also within 3 % of PyTorch, 8-bit weights included
        in_process = Predictor.from_pretrained(bundle.DEFAULT_MODEL)(str(clip))
        assert not isinstance(in_process, list) and in_process.probabilities is not None
        assert prediction.probabilities == pytest.approx(in_process.probabilities, abs=0.03)
    with opened(folder, tmp_path / "profile") as (page, asked, errors):
        before = len(asked)
        page.set_input_files("#file", str(clip))
        page.wait_for_selector("body[data-label]", timeout=60_000)
        assert page.get_attribute("body", "data-label") == prediction.label
        shown = page.locator("#bars .share").all_inner_texts()
        for text, share in zip(shown, prediction.probabilities.values(), strict=True):
            assert float(text.removesuffix(" %")) == pytest.approx(100 * share, abs=0.51)
        assert len(asked) == before, "the file was sent somewhere"
        broken = tmp_path / "broken.wav"
        broken.write_bytes(b"RIFF, not really")
        page.set_input_files("#file", str(broken))
        page.wait_for_selector("#status.wrong")
        assert "can't be decoded" in page.inner_text("#status")
        page.set_input_files("#file", str(clip))
        page.wait_for_selector("body[data-label]")
        ms = float(page.get_attribute("body", "data-ms"))
        print(f"\n{kind}: {ms:.1f} ms a step")
        assert 0 < ms < MOST_MS
        page.screenshot(path=str(tmp_path / f"{kind}.png"))
        assert errors == []


def test_the_microphone_gets_labels_while_it_records(
    whole: Path, clip: Path, tmp_path: Path
) -> None:
    flags = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={clip}",
    )
    with opened(whole, tmp_path / "profile", *flags) as (page, asked, errors):
        before = len(asked)
        page.click("#record")
        page.wait_for_selector("body[data-steps='6']", timeout=60_000)
        labels = OnnxClassifier(whole / "model.onnx").labels
        assert page.get_attribute("body", "data-label") in (*labels, "silence")
        ms = float(page.get_attribute("body", "data-ms"))
        print(f"\nmicrophone: {ms:.1f} ms a step")
        assert 0 < ms < MOST_MS
        page.screenshot(path=str(tmp_path / "microphone.png"))
        page.click("#record")
        page.get_by_text("Stopped.").wait_for()
        new = [url for url in asked[before:] if not url.endswith("microphone.js")]
        assert new == [] and errors == []
