import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from job_handlers import ROW, make_handler, predicted

from avser.errors import BundleError, MediaError
from avser.web.jobs import Classify, JobResult, Progress, Render
from avser.web.limits import BrokenError, BusyError, LateError, Limits
from avser.web.workers import Workers


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    result = Workers(make_handler, limits=Limits(concurrency=1, queue=1, time_s=3))
    result.wait()
    yield result
    result.close()


def clip(folder: Path, text: str) -> Path:
    path = folder / "clip"
    path.write_text(text)
    return path


def ask(workers: Workers, path: Path, *, seconds: float = 20.0) -> JobResult:
    deadline = time.monotonic() + seconds
    return asyncio.run(workers.ask(Classify(path=path), deadline=deadline))


def test_worker_tells_its_models_and_answers_jobs(workers: Workers, tmp_path: Path) -> None:
    assert [model.row for model in workers.models] == [ROW]
    path = clip(tmp_path, "good")
    assert ask(workers, path).prediction == predicted(str(path))
    job = Render(path=path, prediction=predicted(str(path)), format="mp4", folder=tmp_path)
    reply = asyncio.run(workers.ask(job, deadline=time.monotonic() + 20))
    assert reply == b"mp4 of happygood"


def test_progress_is_reported_while_a_worker_works(workers: Workers, tmp_path: Path) -> None:
    reports: list[Progress] = []
    job = Classify(path=clip(tmp_path, "slow"))
    work = workers.ask(job, deadline=time.monotonic() + 20, report=reports.append)
    assert asyncio.run(work).prediction.label == "happy"
    assert reports == [Progress(stage="faces", share=0.5, read_s=0.25)]


def test_waiting_jobs_have_their_place_in_the_queue(workers: Workers, tmp_path: Path) -> None:
    jobs = [Classify(path=clip(tmp_path, "slow")) for _ in range(3)]

    async def run() -> list[int]:
        deadline = time.monotonic() + 20
        work = [asyncio.create_task(workers.ask(job, deadline=deadline)) for job in jobs]
        while [workers.position(job) for job in jobs] != [0, 1, 2]:
            await asyncio.sleep(0.01)
        await work[0]
        while workers.position(jobs[1]):
            await asyncio.sleep(0.01)
        places = [workers.position(job) for job in jobs]
        await asyncio.gather(*work)
        return places

    assert asyncio.run(run()) == [0, 0, 1]
    assert [workers.position(job) for job in jobs] == [0, 0, 0]


def test_what_the_desk_refuses_is_said_and_what_it_did_not_foresee_is_not_shown(
    workers: Workers, tmp_path: Path
) -> None:
    with pytest.raises(MediaError, match="it is bad; send another"):
        ask(workers, clip(tmp_path, "bad"))
    with pytest.raises(BrokenError, match="made the worker fail") as error:
        ask(workers, clip(tmp_path, "bug"))
    assert "traceback that nobody" not in str(error.value)


def test_crash_costs_one_request(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(BrokenError, match=r"ended \(exit code 7\)"):
        ask(workers, clip(tmp_path, "crash"))
    assert ask(workers, clip(tmp_path, "good")).prediction.label == "happy"
    assert workers.alive == 1


def test_hanging_clip_is_ended_at_its_deadline_and_others_go_on(
    workers: Workers, tmp_path: Path
) -> None:
    began = time.monotonic()
    with pytest.raises(LateError, match="no result within 3 s"):
        ask(workers, clip(tmp_path, "hang"), seconds=0.3)
    assert time.monotonic() - began < 5
    assert ask(workers, clip(tmp_path, "good")).prediction.label == "happy"


def test_job_whose_time_is_up_is_not_begun(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(LateError):
        ask(workers, clip(tmp_path, "crash"), seconds=-1)
    assert ask(workers, clip(tmp_path, "good")).prediction.label == "happy"


def test_places_are_bounded_and_given_back(workers: Workers) -> None:
    with workers.place(), workers.place():
        with pytest.raises(BusyError, match="1 clips are processed and 1 wait"), workers.place():
            pass
    with workers.place():
        assert workers.taken == 1
    assert workers.taken == 0


def test_model_that_does_not_load_is_said_at_the_start() -> None:
    failing = Workers(partial(make_handler, fails=True), limits=Limits(concurrency=2))
    with pytest.raises(BundleError, match="Bad model 'x'"):
        failing.wait()
    assert failing.alive == 0
