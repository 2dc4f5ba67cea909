"""The exported page in a real browser, whose microphone is fed from a file."""

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import check_accessibility, open_browser, opened, wait_until

from avser.bundle import serialization as bundle
from avser.bundle.serialization import Bundle
from avser.errors import ConfigError
from avser.export.onnx_file import AudioGraph
from avser.export.page_folder import save_page
from avser.export.runtime import OnnxClassifier
from avser.inference.predictor import Predictor
from avser.inference.writers import timeline_text
from avser.media.reader import read_audio
from avser.models.heads import AttentiveHead
from avser.models.net import EmotionNet
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_audio_encoder
from avser.types import Prediction, TimelineEntry

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    samples = voice("angry", speaker="3", seconds=3.3, sample_rate=16_000, seed=1)
    return write_wav(path, np.concatenate([samples, np.zeros(4000, np.float32)]))


@pytest.fixture(scope="module")
def browser(clip: Path) -> Iterator[Any]:
    with open_browser(microphone=clip) as result:
        yield result


def page_of(graph: AudioGraph, folder: Path) -> Path:
    try:
        return save_page(graph, folder, ort=os.environ.get("ORT_WEB")).parent
    except ConfigError as error:
        pytest.skip(f"onnxruntime-web can't be had here: {error}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released audio model, for whole clips."""
    graph = AudioGraph(bundle.load("audio_small.multi"))
    return page_of(graph, tmp_path_factory.mktemp("page") / "whole")


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default voice, with an encoder of Whisper."""
    graph = AudioGraph(bundle.load(bundle.DEFAULT_MODEL))
    return page_of(graph, tmp_path_factory.mktemp("page") / "default")


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal audio model, which carries its state."""
    encoder = tiny_audio_encoder(causal=True)
    emotions = ("happy", "sad", "angry")
    net = EmotionNet(audio=encoder, head=AttentiveHead(hidden=8), emotions=emotions).eval()
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
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def downloaded(page: Any, format: str) -> str:
    with page.expect_download() as caught:
        page.click(f"[data-format={format}]")
    return Path(caught.value.path()).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["whole", "stream", "default"])
def test_a_file_gets_the_label_that_python_gives(
    kind: str, request: pytest.FixtureRequest, browser: Any, clip: Path, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(kind)
    prediction = OnnxClassifier(folder / "model.onnx")(read_audio(clip))
    assert prediction.probabilities is not None and prediction.label is not None
    # products in 8 bits round activations, and wasm's sums have another order
    apart = 0.03 if kind == "default" else 1e-3
    if kind == "whole":  # the page is also within 3 % of PyTorch, 8-bit weights included
        in_process = Predictor.from_pretrained("audio_small.multi")(str(clip))
        assert not isinstance(in_process, list) and in_process.probabilities is not None
        assert prediction.probabilities == pytest.approx(in_process.probabilities, abs=0.03)
    with served(folder) as address, opened(browser, address) as page:
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url) if r.url.startswith("http") else None)
        assert not page.is_visible("#record-camera") and not page.is_visible("#options")
        page.set_input_files("#file", str(clip))
        page.wait_for_selector("#headline")
        assert page.get_attribute("body", "data-label") == prediction.label
        result = json.loads(downloaded(page, "json"))
        assert result["probabilities"] == pytest.approx(prediction.probabilities, abs=apart)
        labels = [step["label"] for step in result["timeline"]]
        assert labels == [step.label for step in prediction.timeline]
        assert result["duration_s"] == pytest.approx(prediction.duration_s, abs=1e-3)
        shown = page.locator("#shares .share").all_inner_texts()
        for text, share in zip(shown, prediction.probabilities.values(), strict=True):
            assert float(text.removesuffix("%")) == pytest.approx(
                100 * share, abs=0.51 + 100 * apart
            )
        same = as_prediction(result)
        assert downloaded(page, "vtt") == timeline_text(same, "vtt")
        assert downloaded(page, "csv") == timeline_text(same, "csv")
        assert asked == [], "the file was sent somewhere"
        check_accessibility(page)
        broken = tmp_path / "broken.wav"
        broken.write_bytes(b"RIFF, not really")
        page.set_input_files("#file", str(broken))
        page.wait_for_selector("#problem:not(:empty)")
        assert page.inner_text("#problem").startswith("broken.wav can't be decoded")
        page.set_input_files("#file", str(clip))
        page.wait_for_selector("#headline")


def as_prediction(result: dict[str, Any]) -> Prediction:
    timeline = tuple(TimelineEntry(**step) for step in result["timeline"])
    kept = {k: result[k] for k in ("label", "probabilities", "reason", "duration_s", "model")}
    return Prediction(**kept, modalities=tuple(result["modalities"]), timeline=timeline)


def test_the_microphone_gets_labels_while_it_records(browser: Any, whole: Path) -> None:
    with served(whole) as address, opened(browser, address) as page:
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url) if r.url.startswith("http") else None)
        page.click("#tab-live")
        assert "nothing leaves this device" in page.inner_text("#live-lead")
        page.click("#live-start")
        wait_until(page, "document.querySelector('#live-view').dataset.steps >= 6")
        labels = OnnxClassifier(whole / "model.onnx").labels
        assert page.inner_text("#live-label").split(",")[0] in (*labels, "silence")
        print(f"\nmicrophone: {page.get_attribute('#live-view', 'data-delay')} ms delay")
        check_accessibility(page)
        page.click("#live-start")
        page.get_by_text("Stopped.").wait_for()
        assert [url for url in asked if not url.endswith("microphone.js")] == []
        page.click("#tab-about")
        assert "CC BY-NC-SA 4.0" in page.inner_text("#cards")
