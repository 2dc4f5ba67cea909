"""Make the pictures of the page of worked examples: ``python docs/generate/pictures.py``.

Needs Chromium. Synthetic voices stand for recordings, and the sample clip for a video.
"""

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browsing import open_browser, opened, running, wait_until  # noqa: E402

from avser.cli import main  # noqa: E402
from avser.testing.corpora.folders import fake_folders  # noqa: E402

OUT = ROOT / "docs" / "assets" / "journeys"
SAMPLE = ROOT / "examples" / "sample.mp4"


def student(folder: Path) -> None:
    """A confusion matrix of a training, and a timeline."""
    fake_folders(folder / "mine", speakers=4, per_emotion=4)
    train = ["train", str(folder / "mine"), "--model", "small", "--epochs", "10"]
    assert main([*train, "--figures", "png", "--out", str(folder / "run")]) == 0
    picture = folder / "run" / "figures" / "confusion.png"
    (OUT / "student_confusion.png").write_bytes(picture.read_bytes())
    assert main(["classify", str(SAMPLE), "--plot", str(OUT / "student_timeline.png")]) == 0


def psychologist(folder: Path) -> None:
    """The page with a result, whose downloads include ELAN's format."""
    serve = ("-m", "avser", "serve", "--port", "0")
    with (
        running(serve, folder=folder) as address,
        open_browser() as browser,
        opened(browser, address, viewport={"width": 1100, "height": 900}) as page,
    ):
        page.set_input_files("#file", SAMPLE)
        page.wait_for_selector("#headline")
        wait_until(page, "document.querySelector('#media').readyState >= 2")
        page.locator(".timeline").press("ArrowRight")
        page.wait_for_timeout(500)
        page.screenshot(path=OUT / "psychologist_page.png", full_page=True)


if __name__ == "__main__":
    os.environ["AVSER_CACHE"] = tempfile.mkdtemp()
    OUT.mkdir(parents=True, exist_ok=True)
    student(Path(tempfile.mkdtemp()))
    psychologist(Path(tempfile.mkdtemp()))
