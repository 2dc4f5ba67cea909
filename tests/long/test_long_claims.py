"""Clips that claim to last for days, sent to a server."""

import asyncio
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from browsing import running

from avser.errors import AvserError
from avser.web.job_handler import load
from avser.web.jobs import Classify
from avser.web.limits import Limits
from avser.web.workers import Workers

pytestmark = pytest.mark.long

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.mp4"


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


def test_huge_time_stamps_are_refused_at_once(tmp_path: Path) -> None:
    clip = huge_stamps(tmp_path / "huge.mp4")
    assert clip.stat().st_size < 20_000
    command = ("-m", "avser", "serve", "--port", "0", "--concurrency", "1")
    with running(command, folder=tmp_path / "served") as address:
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
