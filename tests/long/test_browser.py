"""The page in a real browser: Chromium with a fake camera and microphone."""

import asyncio
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from browsing import browser_page, outside, running

from avser.bundle import serialization as bundle
from avser.errors import AvserError
from avser.testing.media import voice, write_wav
from avser.web.job_handler import load
from avser.web.jobs import Classify
from avser.web.limits import Limits
from avser.web.space import write_space
from avser.web.workers import Workers

pytestmark = pytest.mark.long

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.mp4"
SERVE = ("-m", "avser", "serve", "--port", "0")
ANSWERED = "#words >> text=Based on"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    pytest.importorskip("gradio")
    with running(SERVE, folder=folder) as found:
        yield found
    assert left(folder) == [], "the server left files behind"


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("voice") / "voice.wav", voice("happy", seconds=6.0))


@pytest.fixture
def page(address: str, microphone: Path) -> Iterator[Any]:
    with browser_page(microphone=microphone) as found:
        asked = outside(found, address)
        found.goto(address)
        yield found
        assert asked == [], "the page asked other hosts"


def left(folder: Path) -> list[str]:
    return [str(p) for p in folder.rglob("*") if p.is_file()]


def classify(page: Any, *, wait_for: str = ANSWERED) -> None:
    """Press the button, which waits for the upload, and wait for the answer."""
    page.get_by_role("button", name="Classify", exact=True).click()
    page.wait_for_selector(wait_for)


def test_clip_that_is_dropped_is_answered_as_the_interface_answers(
    page: Any, address: str, folder: Path
) -> None:
    reply = httpx.post(
        f"{address}/v1/classify", files={"file": SAMPLE.read_bytes()}, timeout=120
    ).json()
    page.set_input_files("input[type=file] >> nth=0", SAMPLE)
    classify(page)
    shown = page.inner_text("#label").split("\n")
    assert shown[1] == reply["label"] == "happy"
    assert page.inner_text("#words").startswith("Based on the voice and the face")
    page.wait_for_selector("#plot img")
    assert page.evaluate("document.querySelector('#plot img').naturalWidth") > 500
    page.wait_for_function("document.querySelector('#annotated video').duration > 4")
    assert left(folder) == []
    page.evaluate("document.querySelectorAll('video').forEach(v => { v.muted = true; v.play() })")
    page.wait_for_function(  # the upload too, which is deleted on the server by now
        "[...document.querySelectorAll('video')].filter(v => v.currentTime > 1).length == 2"
    )


def test_voice_is_recorded_played_and_recorded_again(page: Any, folder: Path) -> None:
    page.get_by_role("tab", name="Audio").click()
    page.get_by_label("Record audio").click()
    for _ in range(2):
        page.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(2500)
        page.get_by_role("button", name="Stop", exact=True).click()
        page.get_by_label("Play", exact=True).first.wait_for()
        classify(page)
        assert "the voice" in page.inner_text("#words")
        assert page.inner_text("#label").split("\n")[1] in bundle.load().net.emotions
        page.get_by_label("Clear").click()
        page.wait_for_selector(ANSWERED, state="detached")
    assert left(folder) == []


def test_webcam_without_a_face_says_why_only_the_voice_was_used(page: Any, folder: Path) -> None:
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    record = page.get_by_label("start recording")
    record.click()
    page.wait_for_timeout(2500)
    record.click()
    classify(page)
    words = page.inner_text("#words")
    assert words.startswith("Based on the voice; model:") and "Note: no face" in words
    assert left(folder) == []


def test_broken_file_shows_a_sentence(page: Any, folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video at all")
    page.set_input_files("input[type=file] >> nth=0", broken)
    classify(page, wait_for="#words [role=alert]")
    words = page.inner_text("#words")
    assert words.startswith("Can't read broken.mp4: it is no recording") and words.endswith(".")
    assert "Traceback" not in page.content()
    assert left(folder) == []


def test_many_files_become_a_table_and_a_csv(
    page: Any, folder: Path, tmp_path: Path, microphone: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_text("no sound at all")
    page.get_by_role("tab", name="Several clips").click()
    page.locator("input[type=file]:not([accept])").last.set_input_files(
        [SAMPLE, microphone, broken]
    )
    page.get_by_text("broken").first.wait_for()
    page.get_by_role("button", name="Classify all").click()
    link = page.locator("#csv a")
    link.wait_for()
    with page.expect_download() as download:
        link.click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert rows[0].startswith("path,label,probability,modalities,reason")
    assert rows[1].startswith("sample.mp4,happy,") and rows[2].startswith("voice.wav,")
    assert "Can't read broken.wav" in rows[3]
    assert "Can't read broken.wav" in page.inner_text("#results")
    assert left(folder) == []


def test_card_is_shown(page: Any) -> None:
    page.get_by_role("tab", name="About the model").click()
    page.get_by_role("heading", name="Not for").first.wait_for()
    assert "CC BY-NC-SA 4.0" in page.inner_text("body")


def test_token_is_asked_for(tmp_path: Path) -> None:
    with (
        running(
            [*SERVE, "--model", bundle.DEFAULT_MODEL], folder=tmp_path, AVSER_TOKEN="sesame"
        ) as (address),
        browser_page() as page,
    ):
        page.goto(address)
        page.get_by_label("username").fill("me")
        page.get_by_label("password").fill("sesame")
        page.get_by_role("button", name="Login").click()
        page.get_by_role("tab", name="About the model").wait_for()
        assert httpx.get(f"{address}/v1/models").status_code == 401


def test_space_runs_as_it_is(tmp_path: Path) -> None:
    space = write_space(bundle.load(), tmp_path / "space")
    port = {"GRADIO_SERVER_PORT": "0"}
    with running([space / "app.py"], folder=tmp_path / "run", **port) as address:
        with browser_page() as page:
            asked = outside(page, address)
            page.goto(address)
            page.set_input_files("input[type=file] >> nth=0", SAMPLE)
            classify(page)
            assert page.inner_text("#words").startswith("Based on the voice; model: audio_crnn")
            assert asked == []
    assert left(tmp_path / "run") == []


def huge_stamps(path: Path) -> Path:
    """A few kilobytes of which the second half claims to come 40 hours after the first."""
    with av.open(str(path), "w") as made:
        stream = made.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 64
        packets = []
        for _ in range(20):
            image = np.full((64, 64, 3), 90, np.uint8)
            packets += stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
        packets += stream.encode(None)
        for i, packet in enumerate(packets):
            packet.pts = packet.dts = (i if i < 10 else 1_500_000 + i) * 1_000
            packet.time_base = Fraction(1, 10_000)
            made.mux(packet)
    return path


def test_huge_time_stamps_are_refused_at_once(address: str, tmp_path: Path) -> None:
    clip = huge_stamps(tmp_path / "huge.mp4")
    assert clip.stat().st_size < 20_000
    reply = httpx.post(f"{address}/v1/classify", files={"file": clip.read_bytes()}, timeout=60)
    assert reply.status_code == 422
    assert "longer than the 300 s" in reply.json()["error"]["message"]


def test_a_job_of_huge_time_stamps_ends_and_the_next_one_works(tmp_path: Path) -> None:
    """Without a limit of duration, the work is bounded or ended at the deadline."""
    clip = huge_stamps(tmp_path / "huge.mp4")
    workers = Workers(partial(load), limits=Limits(concurrency=1, time_s=20))
    try:
        workers.wait()
        for path, seconds in ((clip, 20.0), (SAMPLE, 240.0)):
            begun = time.monotonic()
            job = workers.ask(Classify(path=path), deadline=begun + seconds)
            try:
                label = asyncio.run(job).prediction.label
            except AvserError as error:
                label = None
                print(f"{path.name}: {error}")
            assert time.monotonic() - begun < seconds + 5
        assert label == "happy" and workers.alive == 1
    finally:
        workers.close()
