"""The contributor's page in a real browser, whose microphone is fed from a file."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle

pytestmark = pytest.mark.long
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-fake-device-for-media-stream "
    "--use-fake-ui-for-media-stream"
).split()
PAGE = """
import os, sys
from pathlib import Path
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": sys.argv[4]}
from avser.federated.client.contribute_page import ContributionSession, LatestModel, serve
from avser.federated.client.contributions import Contributions
model, scratch = LatestModel(None, Path(sys.argv[1])), Path(sys.argv[4])
session = ContributionSession(model, Contributions(Path(sys.argv[2])), scratch)
serve(session, port=int(sys.argv[3]), ready=lambda url: print(url, flush=True))
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    emotions = ("neutral", "happy", "sad", "angry")
    model = tiny_bundle(tmp_path / "bundle", emotions)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "scratch").mkdir()
    words = [str(model), str(tmp_path / "mine"), str(port), str(tmp_path / "scratch")]
    process = subprocess.Popen(
        [sys.executable, "-c", PAGE, *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        yield process.stdout.readline().strip()
        process.terminate()
        process.wait()


@pytest.fixture
def page(tmp_path: Path, address: str) -> Iterator[tuple[Any, list[str]]]:
    api = pytest.importorskip("playwright.sync_api")
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"{CHROMIUM} is not there; name another in CHROMIUM")
    samples = voice("angry", speaker="3", seconds=3.0, sample_rate=16_000, seed=1)
    clip = write_wav(tmp_path / "mic.wav", np.concatenate([samples, np.zeros(4000, np.float32)]))
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=CHROMIUM,
            args=[*FLAGS, f"--use-file-for-fake-audio-capture={clip}"],
            permissions=["microphone"],
            viewport={"width": 1100, "height": 800},
        )
        asked: list[str] = []
        found = browser.new_page()
        found.on("request", lambda request: asked.append(request.url))
        found.goto(address)
        found.wait_for_selector("#submit", timeout=120_000)
        yield found, asked
        outside = [u for u in asked if not u.startswith((address.rstrip("/"), "data:", "blob:"))]
        assert outside == []
        browser.close()


def tally(page: Any, name: str) -> int:
    return int(page.inner_text(f"#{name}"))


def record(page: Any, seconds: float) -> None:
    page.get_by_role("button", name=re.compile("record", re.IGNORECASE)).first.click()
    time.sleep(seconds)
    page.get_by_role("button", name=re.compile("stop", re.IGNORECASE)).first.click()
    page.wait_for_selector("#words p", timeout=60_000)


def test_a_voice_is_recorded_checked_and_contributed(
    page: tuple[Any, list[str]], tmp_path: Path
) -> None:
    screen, _ = page
    prompted = screen.input_value("#prompt textarea, #prompt input")
    assert prompted in ("neutral", "happy", "sad", "angry")
    assert screen.is_disabled("#submit")  # nothing to submit yet
    microphone = screen.get_by_label("Record audio")
    if microphone.count():
        microphone.first.click()
    record(screen, 2.0)
    said = screen.inner_text("#words")
    took = re.search(r"predicted in (\d+\.\d+) s", said)
    assert took is not None and float(took[1]) < 1.0, said  # the goal
    assert screen.locator("audio, .waveform-container, #waveform").count() > 0  # can be played back
    screen.screenshot(path=str(tmp_path / "contribute.png"))
    assert tally(screen, "submitted") == 0
    screen.click("#submit")
    screen.get_by_text("Thank you").wait_for(timeout=30_000)
    screen.wait_for_function("document.querySelector('#submitted').innerText === '1'")
    screen.screenshot(path=str(tmp_path / "submitted.png"))
    mine = tmp_path / "mine"
    assert len(list((mine / "features").glob("*.safetensors"))) == 1
    assert not list(mine.rglob("*.wav"))  # no raw audio is kept
    assert not [p for p in (tmp_path / "scratch").rglob("*") if p.is_file()]
    screen.click("#delete")
    screen.get_by_text("1 contributions deleted").wait_for(timeout=30_000)
    screen.wait_for_function("document.querySelector('#submitted').innerText === '0'")
    assert not list((mine / "features").glob("*"))
