"""The page in a real browser: Chromium with a fake camera and microphone."""

import csv
import io
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import httpx
import numpy as np
import pytest
from browsing import check_accessibility, open_browser, opened, running, wait_until, write_mjpeg

from avser.bundle import serialization as bundle
from avser.inference.writers import COLUMNS, write_csv
from avser.testing.media import voice, write_wav
from avser.types import STEP_S
from avser.web.space import write_space

pytestmark = pytest.mark.long

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.mp4"
SERVE = ("-m", "avser", "serve", "--port", "0")
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    pytest.importorskip("uvicorn")
    with running(SERVE, folder=folder) as actual:
        yield actual
    assert left(folder) == [], "the server left files behind"


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("voice") / "voice.wav", voice("happy", seconds=6.0))


@pytest.fixture(scope="module")
def browser(microphone: Path) -> Iterator[Any]:
    camera = write_mjpeg(SAMPLE, microphone.with_name("face.mjpeg"))
    with open_browser(microphone=microphone, camera=camera) as actual:
        yield actual


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with opened(browser, address) as actual:
        yield actual


def left(folder: Path) -> list[str]:
    return [str(p) for p in folder.rglob("*") if p.is_file()]


def result(page: Any) -> str:
    """Wait for a result; return its headline."""
    page.wait_for_selector("#headline")
    return page.inner_text("#headline")


def show_sample(page: Any) -> None:
    page.click("#sample-video")
    result(page)
    wait_until(page, "document.querySelector('#media').readyState >= 2")


def now(page: Any) -> float:
    wait_until(page, "!document.querySelector('#media').seeking")
    return page.evaluate("document.querySelector('#media').currentTime")


# -- one clip ------------------------------------------------------------------------------------


def test_sample_clip_is_sought_by_click_drag_and_key(page: Any) -> None:
    check_accessibility(page)
    show_sample(page)
    assert result(page) == "happy, 34%"
    assert page.inner_text("#announce").startswith("Result for sample.mp4: happy, 34%.")
    assert "the voice and the face" in page.inner_text("#used")
    assert page.evaluate("document.activeElement.id") == "headline"
    page.wait_for_selector("canvas[data-boxes='1']")
    page.uncheck("#boxes")
    page.wait_for_selector("canvas[data-boxes='0']")
    timeline = page.locator(".timeline")
    size = timeline.bounding_box()
    length = float(timeline.get_attribute("aria-valuemax"))

    def place(time_s: float) -> dict[str, float]:
        return {"x": time_s / length * size["width"], "y": 100.0}

    timeline.click(position=place(3.4 * STEP_S))  # a click goes to the beginning of its step
    assert now(page) == pytest.approx(3 * STEP_S, abs=0.002)
    assert timeline.get_attribute("aria-valuetext").startswith("1.5 s: happy, ")
    timeline.hover(position=place(3.4 * STEP_S))
    assert page.inner_text(".tip").startswith("1.5–2.0 s\nhappy ")
    page.keyboard.press("ArrowRight")
    assert now(page) == pytest.approx(4 * STEP_S, abs=0.002)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert now(page) == pytest.approx(2 * STEP_S, abs=0.002)
    timeline.drag_to(timeline, source_position=place(1.0), target_position=place(2.0))
    assert now(page) == pytest.approx(2.0, abs=0.05)
    page.keyboard.press("Home")
    assert now(page) == 0
    page.keyboard.press("Space")
    wait_until(page, "document.querySelector('#media').currentTime > 0.6")
    page.keyboard.press("Space")
    assert page.evaluate("document.querySelector('#media').paused")
    assert float(timeline.get_attribute("aria-valuenow")) > 0.5
    check_accessibility(page)


def test_downloads_hold_the_result(page: Any, folder: Path) -> None:
    show_sample(page)
    formats = page.eval_on_selector_all("[data-format]", "all => all.map(b => b.dataset.format)")
    kinds = ["csv", "json", "vtt", "eaf", "labelstudio.json", "pdf", "mp4"]
    assert formats == kinds
    files = {kind: download(page, f"[data-format='{kind}']") for kind in kinds}
    whole = json.loads(files["json"])
    assert whole["label"] == "happy" and len(whole["timeline"]) == 10
    labels = [step["label"] for step in whole["timeline"]]
    rows = list(csv.DictReader(io.StringIO(files["csv"].decode())))
    assert [row["label"] or None for row in rows] == labels and "happy" in labels
    spans = [label for label, _ in groupby(labels) if label is not None]
    vtt = [line for line in files["vtt"].decode().splitlines() if line and " --> " not in line]
    assert [line.split()[0] for line in vtt[1:]] == spans
    values = [v.text for v in ElementTree.fromstring(files["eaf"]).iter("ANNOTATION_VALUE")]
    assert values == spans
    assert json.loads(files["labelstudio.json"])[0]["data"] == {"clip": "sample.mp4"}
    assert files["pdf"].startswith(b"%PDF")
    with av.open(io.BytesIO(files["mp4"])) as video:
        assert (video.streams.video[0].width, video.streams.video[0].height) == (640, 480)
        assert float(video.duration / 1e6) == pytest.approx(4.67, abs=0.1)
    assert left(folder) == []


def test_own_video_becomes_an_annotation_file_that_names_it(
    page: Any, tmp_path: Path, folder: Path
) -> None:
    """ELAN opens the file beside the video: its name, and labels from begin to end."""
    video = tmp_path / "Interview 3.mp4"
    video.write_bytes(SAMPLE.read_bytes())
    page.set_input_files("#file", video)
    assert result(page).startswith("happy, ")
    with page.expect_download() as caught:
        page.get_by_role("button", name="ELAN (.eaf)").click()
    assert caught.value.suggested_filename == "Interview 3.eaf"
    document = ElementTree.parse(caught.value.path())
    (media,) = document.iter("MEDIA_DESCRIPTOR")
    assert media.get("RELATIVE_MEDIA_URL") == "./Interview 3.mp4"
    times = [int(slot.get("TIME_VALUE", -1)) for slot in document.iter("TIME_SLOT")]
    assert min(times) == 0 and max(times) == pytest.approx(4_670, abs=60)
    values = [value.text for value in document.iter("ANNOTATION_VALUE")]
    assert "happy" in values and len(values) == len(times) // 2
    assert left(folder) == []


def download(page: Any, button: str) -> bytes:
    with page.expect_download() as caught:
        page.click(button)
    return Path(caught.value.path()).read_bytes()


def test_upload_has_the_result_of_the_interface(page: Any, address: str, folder: Path) -> None:
    reply = httpx.post(
        f"{address}/v1/classify", files={"file": SAMPLE.read_bytes()}, timeout=120
    ).json()
    page.click("#options summary")
    check_accessibility(page)
    page.check("#all-faces")
    page.set_input_files("#file", SAMPLE)
    label, share = result(page).split(", ")
    assert (label, share) == (reply["label"], f"{reply['probabilities'][label]:.0%}")
    assert page.inner_text(".face").startswith("Face 1: happy, ")
    page.check("#voice-only")
    page.set_input_files("#file", SAMPLE)
    wait_until(page, "document.querySelector('#used')?.innerText.startsWith('From the voice;')")
    page.uncheck("#voice-only")
    assert left(folder) == []


@pytest.mark.parametrize(("device", "used"), [("camera", "and the face"), ("microphone", "voice;")])
def test_recording_is_classified_and_played(
    page: Any, folder: Path, device: str, used: str
) -> None:
    page.click(f"#record-{device}")
    wait_until(page, "document.querySelector('#clock').innerText.includes('3 s')")
    check_accessibility(page)
    page.click("#stop")
    assert result(page).split(",")[0] in (
        *bundle.load().net.emotions,
        *bundle.load("av_jca.ravdess_fer2013").net.emotions,
    )
    assert used in page.inner_text("#used")
    wait_until(page, "Number.isFinite(document.querySelector('#media').duration)")
    page.locator(".timeline").press("End")
    assert now(page) > 1.5
    assert left(folder) == []


def test_bad_and_long_files_get_a_sentence(page: Any, folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video at all")
    page.set_input_files("#file", broken)
    page.wait_for_selector("#problem:not(:empty)")
    problem = page.inner_text("#problem")
    assert problem.startswith("Can't read broken.mp4: it is no recording")
    assert page.is_visible("#record-camera"), "one can go on"
    check_accessibility(page)
    long = write_wav(tmp_path / "long.wav", np.zeros(8_000 * 301, np.float32), sample_rate=8_000)
    page.set_input_files("#file", long)
    wait_until(page, "document.querySelector('#problem').innerText.includes('300 s')")
    minutes = write_wav(tmp_path / "minutes.wav", np.tile(voice("sad", seconds=5.0), 15))
    stages = page.evaluate_handle(
        "(() => { const seen = []; new MutationObserver(() => seen.push("
        "document.querySelector('#stage').innerText)).observe(document.querySelector('#stage'), "
        "{childList: true, characterData: true, subtree: true}); return seen; })()"
    )
    page.set_input_files("#file", minutes)
    result(page)
    seen = stages.json_value()
    assert seen[0] == "Sending the clip" and seen[-1] == "Classifying"
    assert page.locator(".timeline").get_attribute("aria-valuemax") == "75.00"
    assert left(folder) == []


def test_full_queue_is_told_and_waited_for(page: Any) -> None:
    error = {"type": "BusyError", "message": "The server is busy.", "position": 17}
    page.route(
        "**/v1/classify",
        lambda route: route.fulfill(
            status=429,
            headers={"Retry-After": "1"},
            json={"path": None, "error": error},
        ),
        times=1,
    )
    page.click("#sample-voice")
    page.get_by_text("number 17 in the queue; trying again in 1 s").wait_for()
    assert "From the voice" in (result(page), page.inner_text("#used"))[1]


# -- several clips, live, about ------------------------------------------------------------------


def test_many_files_become_a_table_that_is_sorted_and_downloaded(
    page: Any, folder: Path, tmp_path: Path, microphone: Path
) -> None:
    broken = tmp_path / 'a "broken", one.wav'
    broken.write_text("no sound at all")
    page.click("#tab-many")
    page.set_input_files("#files", [SAMPLE, microphone, broken])
    page.wait_for_selector("#many-downloads:not([hidden])")
    assert page.inner_text("#many-state") == "All 3 files done; 1 could not be classified."
    check_accessibility(page)
    rows = json.loads(download(page, "#many-json"))
    text = io.StringIO()
    write_csv(rows, text)
    expected = list(csv.DictReader(io.StringIO(text.getvalue())))
    actual = list(csv.DictReader(io.StringIO(download(page, "#many-csv").decode())))
    assert list(actual[0]) == list(COLUMNS)
    for row, other in zip(actual, expected, strict=True):
        assert {k: plain(v) for k, v in row.items()} == {k: plain(v) for k, v in other.items()}
    assert actual[0]["label"] == "happy" and "it is no recording" in actual[2]["error"]

    def names() -> list[str]:
        return page.locator("#table tbody tr td:first-child").all_inner_texts()

    page.click("[data-column=colName]")
    assert names() == ['a "broken", one.wav', "sample.mp4", "voice.wav"]
    page.click("[data-column=colName]")
    assert names() == ["voice.wav", "sample.mp4", 'a "broken", one.wav']
    assert page.locator("th").first.get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="sample.mp4").click()
    assert result(page) == "happy, 34%"
    assert left(folder) == []


def plain(cell: str) -> str | float:
    try:
        return round(float(cell), 6)
    except ValueError:
        return cell


def test_live_view_labels_voice_and_face(page: Any, folder: Path) -> None:
    page.click("#tab-live")
    page.click("#live-start")
    wait_until(page, "document.querySelector('#live-view').dataset.steps >= 4")
    wait_until(page, "document.querySelector('#live-facts').innerText.includes('the face')")
    facts, label = page.inner_text("#live-facts"), page.inner_text("#live-label")
    assert " s delay" in facts and label.split(",")[0] in bundle.load().net.emotions
    assert float(page.get_attribute("#live-view", "data-delay")) > 0
    check_accessibility(page)
    page.click("#live-start")
    page.get_by_text("Stopped.").wait_for()
    assert page.inner_text("#live-start") == "Start" and page.inner_text("#live-problem") == ""
    assert left(folder) == []


def test_phone_in_german_and_dark(browser: Any, address: str) -> None:
    with opened(browser, f"{address}/?lang=de", **PHONE) as page:
        assert page.inner_text("#record-camera") == "Mit der Kamera aufnehmen"
        page.click("#sample-video")
        assert result(page) == "fröhlich, 34\xa0%"
        check_accessibility(page)
        for view in ("many", "live", "about", "clip"):
            page.click(f"#tab-{view}")
            check_accessibility(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("#tab-about")
        page.get_by_role("heading", name="Not for").first.wait_for()
        assert "TESS CC BY-NC-ND 4.0" in page.inner_text("#cards")
        page.select_option("#language", "en")
        assert page.inner_text("#tab-many") == "Several clips"
        assert page.get_attribute("html", "lang") == "en"


def test_keyboard_alone(page: Any) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(40):
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{selector} is not reached")

    tab_to("#tab-clip")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#many") and page.evaluate("document.activeElement.id") == "tab-many"
    page.keyboard.press("ArrowLeft")
    tab_to("#sample-video")
    page.keyboard.press("Enter")
    result(page)
    tab_to(".timeline")
    page.keyboard.press("ArrowRight")
    assert now(page) == pytest.approx(STEP_S, abs=0.002)
    tab_to("[data-format=vtt]")
    with page.expect_download() as caught:
        page.keyboard.press("Enter")
    assert caught.value.suggested_filename == "sample.vtt"
    page.get_by_text("sample.vtt is ready.").wait_for()


# -- other servers -------------------------------------------------------------------------------


def test_token_is_asked_for(browser: Any, tmp_path: Path) -> None:
    command = [*SERVE, "--model", bundle.DEFAULT_MODEL, "--concurrency", "1"]
    with running(command, folder=tmp_path, AVSER_TOKEN="sesame") as address:
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        for token in ("wrong", "sesame"):
            page.get_by_label("Token of this server").fill(token)
            check_accessibility(page)
            page.get_by_role("button", name="Sign in").click()
            page.get_by_text("This token is wrong.").wait_for(
                state="visible" if token == "wrong" else "hidden"
            )
        page.wait_for_selector("body[data-ready]")
        assert not page.is_visible("#record-camera"), "the model has no video branch"
        page.click("#sample-voice")
        result(page)
        assert httpx.get(f"{address}/v1/models").status_code == 401
        context.close()


def test_space_runs_as_it_is(browser: Any, tmp_path: Path) -> None:
    space = write_space(bundle.load(), tmp_path / "space")
    port = {"PORT": "0"}
    with (
        running([space / "app.py"], folder=tmp_path / "run", **port) as address,
        opened(browser, address) as page,
    ):
        page.set_input_files("#file", SAMPLE)
        result(page)
        assert "audio_whisper" in page.inner_text("#used")
    assert left(tmp_path / "run") == []
