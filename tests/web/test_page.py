import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from job_handlers import make_handler, predicted

from avser.web.limits import Limits
from avser.web.page import Page, table
from avser.web.service import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    found = Service(make_handler, limits=Limits(concurrency=1, queue=0, time_s=3), folder=folder)
    found.workers.wait()
    yield found
    found.close()


@pytest.fixture
def page(service: Service) -> Page:
    return Page(service)


def upload(service: Service, text: str, *, name: str = "take.wav") -> str:
    """A file where Gradio puts an upload."""
    path = service.folder / "page" / text.replace(" ", "-") / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return str(path)


def left(service: Service) -> list[str]:
    return [p.name for p in service.folder.rglob("*") if p.name != "page"]


def all_of(updates: AsyncIterator[Any]) -> list[Any]:
    async def gather() -> list[Any]:
        return [update async for update in updates]

    return asyncio.run(gather())


def test_clip_is_answered_then_drawn_on_and_deleted(page: Page, service: Service) -> None:
    first, last = all_of(page.clip(upload(service, "good")))
    label, words, plot, video = first
    assert label == predicted("x").probabilities
    assert "Based on <b>the voice</b>; model: fake" in words
    assert "Damaged take.wav: the rest is used" in words and str(service.folder) not in words
    assert base64.b64encode(b"png").decode() in plot and video == ""
    assert last[:3] == first[:3] and base64.b64decode(last[3]) == b"mp4"
    assert left(service) == []


@pytest.mark.parametrize("text", ["bad", "bug", "hang"])
def test_what_goes_wrong_is_said_in_words_and_deleted(
    page: Page, service: Service, text: str
) -> None:
    ((label, words, plot, video),) = all_of(page.clip(upload(service, f"{text} clip")))
    assert label is None and not plot and not video
    assert words.startswith('<p class="refused" role="alert">') and "Traceback" not in words
    assert left(service) == [] and service.workers.taken == 0


def test_busy_server_says_so_and_deletes_nothing(page: Page, service: Service) -> None:
    path = upload(service, "good later")
    with service.workers.place():
        ((_, words, _, _),) = all_of(page.clip(path))
    assert "retry in some seconds" in words
    assert len(all_of(page.clip(path))) == 2  # it was still there


def test_clip_that_is_gone_or_was_never_there(page: Page, service: Service) -> None:
    ((_, words, _, _),) = all_of(page.clip(str(service.folder / "page" / "gone" / "take.wav")))
    assert "it has been deleted" in words
    ((_, words, _, _),) = all_of(page.clip(None))
    assert "there is none yet" in words


def test_names_are_no_html(page: Page, service: Service) -> None:
    ((_, words, _, _),) = all_of(page.clip(upload(service, "bad name", name="<img src=x>.wav")))
    assert "<img" not in words and "&lt;img src=x&gt;.wav" in words


def test_many_clips_give_a_row_each_and_a_csv(page: Page, service: Service) -> None:
    uploads = [{"path": upload(service, text, name=f"{text}.wav")} for text in ("good", "bad")]
    *steps, (found, link) = all_of(page.many(uploads))
    assert [len(shown["data"]) for shown, _ in steps] == [1, 2] and not any(x for _, x in steps)
    assert found["headers"] == ["clip", "label", "happy", "sad", "streams", "note"]
    assert found["data"][0][:5] == ["good.wav", "happy", "0.75", "0.25", "audio"]
    assert found["data"][1][:2] == ["bad.wav", "–"] and "it is bad" in found["data"][1][-1]
    csv = base64.b64decode(link.split("base64,")[1].split('"')[0]).decode()
    assert csv.splitlines()[1].startswith("good.wav,happy,0.75,audio,")
    assert left(service) == []


def test_requests_that_no_page_sends(page: Page) -> None:
    *_, (found, _) = all_of(page.many([{"path": "/etc/passwd"}, {"url": "http://x/"}, 3]))
    assert [row[0] for row in found["data"]] == ["passwd", "None", "None"]
    assert all("has been deleted" in row[-1] for row in found["data"])


def test_no_clips() -> None:
    assert table([])["data"] == []
