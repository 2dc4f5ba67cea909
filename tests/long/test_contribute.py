"""The contributor's page in a real browser, whose microphone is fed from a file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from browsing import check_accessibility, open_browser, opened, wait_until

from avser.federated.client.contribute_page import (
    ContributionSession,
    LatestModel,
    create_app,
)
from avser.federated.client.contributions import Contributions
from avser.testing.media import voice, write_wav
from avser.testing.nets import tiny_bundle
from avser.web.server import listen_at

pytestmark = pytest.mark.long
EMOTIONS = ("neutral", "happy", "sad", "angry")
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The page in a thread of this process; gives its address."""
    uvicorn = pytest.importorskip("uvicorn")
    model = LatestModel(None, tiny_bundle(folder / "bundle", EMOTIONS))
    (folder / "scratch").mkdir()
    session = ContributionSession(model, Contributions(folder / "mine"), folder / "scratch")
    with listen_at("127.0.0.1", 0) as at:
        server = uvicorn.Server(uvicorn.Config(create_app(session), log_level="warning", ws="none"))
        thread = Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{at.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path) as result:
        yield result


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    samples = voice("angry", speaker="3", seconds=3.0, sample_rate=16_000, seed=1)
    clip = write_wav(tmp_path / "mic.wav", np.concatenate([samples, np.zeros(4000, np.float32)]))
    with open_browser(microphone=clip) as result:
        yield result


def record(page: Any) -> None:
    page.click("#record")
    wait_until(page, "document.querySelector('#clock').innerText.includes('2 s')")


def stored(folder: Path) -> list[str]:
    return [path.suffix for path in (folder / "mine").rglob("*") if path.is_file()]


def test_a_voice_is_recorded_checked_submitted_and_withdrawn(
    browser: Any, address: str, tmp_path: Path
) -> None:
    with opened(browser, address) as page:
        assert page.inner_text("#prompt") in EMOTIONS
        assert page.is_visible("#record") and not page.is_visible("#submit")
        assert page.is_disabled("#withdraw")
        check_accessibility(page)
        record(page)
        check_accessibility(page)
        page.click("#stop")
        page.wait_for_selector("#submit", state="visible")
        used = re.search(r"model, tiny, in (\d\.\d+) s", page.inner_text("#used"))
        assert used is not None and float(used[1]) < 1.0
        assert page.inner_text("#label").split(",")[0] in EMOTIONS
        wait_until(page, "document.querySelector('#playback').readyState >= 1")
        assert page.inner_text("#consent").count(".") == 2, "consent in two sentences"
        check_accessibility(page)
        assert stored(tmp_path) == [], "nothing is kept before one agrees"
        page.click("#submit")
        page.get_by_text("Submitted. Thank you.").wait_for()
        assert page.inner_text("#counts").startswith("1 submitted")
        assert sorted(stored(tmp_path)) == [".jsonl", ".safetensors"], "features, and no recording"
        assert list((tmp_path / "scratch").iterdir()) == []
        page.click("#withdraw")
        check_accessibility(page)
        page.click("#confirm")
        page.get_by_text("1 contributions deleted from this machine.").wait_for()
        assert page.inner_text("#counts").startswith("0 submitted") and stored(tmp_path) == []


def test_phone_in_german_and_a_discarded_recording(browser: Any, address: str) -> None:
    with opened(browser, f"{address}/?lang=de", **PHONE) as page:
        assert page.inner_text("#record") == "Mit dem Mikrofon aufnehmen"
        check_accessibility(page)
        record(page)
        page.click("#discard")
        assert page.is_visible("#record") and not page.is_visible("#check")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
