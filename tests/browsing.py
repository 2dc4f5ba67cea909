"""A real browser and a real server for tests, or a reason to skip them."""

import os
import shutil
import subprocess
import sys
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
def browser_page(*, microphone: Path | None = None) -> Iterator[Any]:
    """A page of Debian's Chromium; its camera and microphone are fakes.

    Args:
        microphone: wav that the fake microphone plays, over and over.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    flags = [*FLAGS, "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    if microphone is not None:
        flags.append(f"--use-file-for-fake-audio-capture={microphone}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        try:
            context = browser.new_context(
                viewport={"width": 1280, "height": 1000}, permissions=["camera", "microphone"]
            )
            context.set_default_timeout(WAIT_MS)
            yield context.new_page()
        finally:
            browser.close()


def outside(page: Any, own: str) -> list[str]:
    """A list that fills with the addresses of other hosts that the page asks."""
    found: list[str] = []

    def keep(request: Any) -> None:
        if not request.url.startswith((own, "blob:", "data:")):
            found.append(request.url)

    page.on("request", keep)
    return found


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
        said = next((line for line in process.stdout if " at http://" in f" {line}"), None)
        assert said is not None, f"{command} ended with {process.wait()}"
        yield said.strip().rpartition("at ")[2]
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
