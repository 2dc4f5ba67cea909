import os
import subprocess
import sys

import pytest

from benchmarks import serve


def test_serve_rows() -> None:
    load = serve.Load()
    load.statuses.update({200: 40, 429: 20})
    load.waits_s = {"video": [float(n) for n in range(1, 21)], "voice": [0.5] * 20}
    load.positions = [17] * 19 + [0]
    load.memory_mb = [500.0, 900.0, 900.0, 930.0, 910.0, 940.0]
    video, voice, answers, busy, placed, wrong, memory_row = serve.rows(load, seconds=10)
    assert placed.value == 0.95 and placed.goal is not None and not placed.goal.reached(placed)
    assert (video.value, voice.value) == (20.0, 0.5) and "median 11.00, n = 20" in video.note
    assert (answers.value, busy.value, wrong.value) == (4.0, 2.0, 0)
    assert (memory_row.value, memory_row.other) == (940.0, 930.0)
    assert [r.goal.reached(r) for r in (wrong, memory_row) if r.goal] == [True, True]
    load.statuses[0] += 1
    load.memory_mb[-1] = 1000.0
    *_, wrong, memory_row = serve.rows(load, seconds=10)
    assert wrong.value == 1 and "0: 1, 200: 40" in wrong.note
    assert [r.goal.reached(r) for r in (wrong, memory_row) if r.goal] == [False, False]


def test_rows_of_one_visitor_hold_the_slowest_of_their_answers() -> None:
    alone = serve.Alone(first_s=[0.01, 0.4], answer_s=[1.0, 2.9])
    answer, first = serve.rows_alone(alone)
    assert (answer.value, first.value) == (2.9, 0.4)
    assert [row.goal.reached(row) for row in (answer, first) if row.goal] == [True, False]


def test_memory_of_children_counts() -> None:
    alone = serve.tree_mb(os.getpid())
    if not alone:
        pytest.skip("no /proc here")
    command = [sys.executable, "-c", "print('up', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        assert 2 < serve.tree_mb(process.pid) < 60
        assert serve.tree_mb(os.getpid()) > alone + 1
        process.communicate(b"\n")


@pytest.mark.long
def test_server_takes_more_clients_than_it_has_places_for() -> None:
    pytest.importorskip("uvicorn")
    report = serve.measure(seconds=10.0, clients=24)
    wrong = next(row for row in report.rows if row.ours == "errors other than 429")
    assert wrong.value == 0, wrong.note
    assert "200: " in wrong.note and "429: " in wrong.note
    placed = next(row for row in report.rows if row.ours.startswith("refusals that state"))
    assert placed.value == 1.0, placed.note
