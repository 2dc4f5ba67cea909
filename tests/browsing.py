"""A real browser and a real server for tests, or a reason to skip them."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
WAIT_MS = 120_000  # for whatever a busy machine does


@contextmanager
def open_browser(*, microphone: Path | None = None, camera: Path | None = None) -> Iterator[Any]:
    """Debian's Chromium; its camera and microphone are fakes.

    Args:
        microphone: wav that the fake microphone plays, over and over.
        camera: mjpeg that the fake camera shows, over and over.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    flags = [*FLAGS, "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    if microphone is not None:
        flags.append(f"--use-file-for-fake-audio-capture={microphone}")
    if camera is not None:
        flags.append(f"--use-file-for-fake-video-capture={camera}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, address: str, **settings: Any) -> Iterator[Any]:
    """A page in a context of its own, which asks no other host and has no error in its console.

    Args:
        browser: from `open_browser`.
        address: to open.
        settings: of the context, such as its viewport and colour scheme.
    """
    settings = {"viewport": {"width": 1280, "height": 1000}} | settings
    context = browser.new_context(permissions=["camera", "microphone"], **settings)
    context.set_default_timeout(WAIT_MS)
    try:
        page = context.new_page()
        asked, errors = outside(page, address.split("?")[0].rstrip("/")), console_errors(page)
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        yield page
        assert asked == [], "the page asked other hosts"
        assert errors == []
    finally:
        context.close()


def console_errors(page: Any) -> list[str]:
    """A list that fills with the errors of a page, except for refused requests."""
    errors: list[str] = []

    def keep(message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            errors.append(message.text)

    page.on("console", keep)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors


def wait_until(page: Any, expression: str) -> None:
    """Wait until an expression is true; the pages' policy forbids Playwright's own way to do so."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(30)


def check_accessibility(page: Any) -> None:
    """No rule of axe is broken by what the page shows now."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    broken = axe.run(page).response["violations"]
    assert [(v["id"], [n["target"] for n in v["nodes"]]) for v in broken] == []


def write_mjpeg(source: Path, path: Path) -> Path:
    """Write the pictures of a video as JPEGs one after another, as a fake camera shows them."""
    import av
    import cv2

    with av.open(str(source)) as video:
        pictures = [f.to_ndarray(format="bgr24") for f in video.decode(video=0)]
    path.write_bytes(b"".join(cv2.imencode(".jpg", p)[1].tobytes() for p in pictures))
    return path


def outside(page: Any, own: str) -> list[str]:
    """A list that fills with the addresses of other hosts that the page asks."""
    result: list[str] = []

    def keep(request: Any) -> None:
        if not request.url.startswith((own, "blob:", "data:")):
            result.append(request.url)

    page.on("request", keep)
    return result


@contextmanager
def running(command: Sequence[object], *, folder: Path, **more: str) -> Iterator[str]:
    """A server in a process of its own; gives the address that it prints.

    Args:
        command: after the interpreter's name; the server prints ``... at http://...``.
        folder: where it runs, and where its temporary files go.
        more: environment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", **more},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        message = next((line for line in process.stdout if " at http://" in f" {line}"), None)
        assert message is not None, f"{command} ended with {process.wait()}"
        yield message.strip().rpartition("at ")[2]
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
