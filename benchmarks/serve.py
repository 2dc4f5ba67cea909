"""Many clients at once on ``avser serve``: waiting, refusals, errors, memory.

The server runs in processes of its own, with its default limits; clients run here and share its
cores. Half of them send the sample clip (voice and face), half four seconds of voice. A client
that gets 429 waits for ``Retry-After`` and sends again. Before that, one client alone sends ten
seconds of voice and face as the page does, with its progress as lines of JSON.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import ROOT, Goal, Report, Row

FULL = {"seconds": 60.0, "clients": 32}
QUICK = {"seconds": 5.0, "clients": 8}
SLACK_MB = 48  # what allocators differ by from minute to minute
KINDS = ("video", "voice")
_TIMEOUT_S = 150.0


@dataclass
class Load:
    """Responses that clients received.

    Attributes:
        statuses: how often each HTTP status came; 0 is a connection that failed.
        waits_s: seconds from sending a clip to its answer, by kind of clip.
        positions: places in the queue that answers with 429 state.
        memory_mb: of all processes of the server, sampled while it worked.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    waits_s: dict[str, list[float]] = field(default_factory=lambda: {k: [] for k in KINDS})
    positions: list[int] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Alone:
    """One client's clips, one after another.

    Attributes:
        first_s: seconds from sending a clip to the first line of progress.
        answer_s: seconds from sending a clip to its result.
    """

    first_s: list[float]
    answer_s: list[float]


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the server; gives its process and address.

    Raises:
        RuntimeError: it did not start.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "avser", "serve", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None  # it is a pipe
        result = next((m for line in process.stdout if (m := re.search(r"http://\S+", line))), None)
        if result is None:
            raise RuntimeError("Bad server: it ended; run avser serve to see why.")
        yield process, result[0]
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def tree_mb(pid: int) -> float:
    """Resident memory of a process and of all below it, in MB; 0 where there is no ``/proc``."""
    total, todo = 0.0, [pid]
    while todo:
        here = Path("/proc") / str(todo.pop())
        try:
            status = (here / "status").read_text(encoding="utf-8")
            todo += map(int, (here / "task" / here.name / "children").read_text().split())
        except OSError:
            continue
        if result := re.search(r"VmRSS:\s+(\d+) kB", status):
            total += int(result[1]) * 1024 / 1e6
    return total


async def press(address: str, clips: Mapping[str, bytes], *, clients: int, seconds: float,
                pid: int) -> Load:  # fmt: skip
    """Let clients send clips, one after another each, for so many seconds."""
    import httpx

    load, end = Load(), time.monotonic() + seconds

    async def client(kind: str) -> None:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as http:
            while time.monotonic() < end:
                start = time.monotonic()
                try:
                    reply = await http.post(f"{address}/v1/classify", files={"file": clips[kind]})
                except httpx.HTTPError:
                    load.statuses[0] += 1
                    continue
                load.statuses[reply.status_code] += 1
                if reply.status_code == 200:
                    load.waits_s[kind].append(time.monotonic() - start)
                if reply.status_code == 429:
                    load.positions.append(reply.json()["error"].get("position", 0))
                await asyncio.sleep(float(reply.headers.get("retry-after", 0)))

    async def watch() -> None:
        while time.monotonic() < end:
            load.memory_mb.append(tree_mb(pid))
            await asyncio.sleep(0.5)

    await asyncio.gather(watch(), *(client(KINDS[i % 2]) for i in range(clients)))
    return load


def ask_alone(address: str, clip: bytes, *, repeats: int = 5) -> Alone:
    """Send a clip so many times, after once untimed."""
    import httpx

    first, answers = [], []
    headers = {"Accept": "application/x-ndjson"}
    with httpx.Client(timeout=_TIMEOUT_S) as http:
        for _ in range(repeats + 1):
            start = time.monotonic()
            files = {"file": ("clip.mp4", clip)}
            with http.stream(
                "POST", f"{address}/v1/classify", files=files, headers=headers
            ) as reply:
                lines = [(time.monotonic() - start, line) for line in reply.iter_lines()]
            if '"result"' not in lines[-1][1]:
                raise RuntimeError(f"Bad answer: {lines[-1][1][:200]}")
            first.append(lines[0][0])
            answers.append(lines[-1][0])
    return Alone(first[1:], answers[1:])


def ten_seconds(folder: Path) -> bytes:
    """The sample clip's pictures and a voice, ten seconds long."""
    import numpy as np

    from avser.media.reader import open_media
    from avser.testing.media import voice, write_video

    with open_media(ROOT / "examples" / "sample.mp4", audio=False, frame_times=0.04) as reader:
        pictures = [frame.image for block in reader for frame in block.frames]
    frames = np.stack([pictures[i % len(pictures)] for i in range(250)])
    path = folder / "ten.mp4"
    write_video(path, frames, samples=voice("happy", seconds=10.0), fps=25)
    return path.read_bytes()


def measure(*, seconds: float, clients: int) -> Report:
    """Serve, press, and sum up."""
    from avser.testing.media import voice, write_wav

    with TemporaryDirectory() as folder:
        wav = write_wav(Path(folder) / "voice.wav", voice("happy", seconds=4.0))
        clips = {
            "video": (ROOT / "examples" / "sample.mp4").read_bytes(),
            "voice": wav.read_bytes(),
        }
        with serving(Path(folder)) as (process, address):
            warm = press(address, clips, clients=2, seconds=2.0, pid=process.pid)
            asyncio.run(warm)  # models meet their first clip
            alone = ask_alone(address, ten_seconds(Path(folder)))
            work = press(address, clips, clients=clients, seconds=seconds, pid=process.pid)
            load = asyncio.run(work)
    return Report(
        f"serve: {clients} clients at once for {seconds:g} s",
        f"default limits; half send 4.6 s of video, half 4 s of voice; {os.cpu_count()} cores, "
        "clients included",
        [*rows_alone(alone), *rows(load, seconds=seconds)],
    )


def rows_alone(alone: Alone) -> list[Row]:
    """Waiting times of one visitor of the page."""
    note = f"alone, after warm-up; longest of {len(alone.answer_s)}"
    return [
        Row(
            ours="answer to 10 s of voice and face",
            value=max(alone.answer_s),
            unit="s",
            goal=Goal("at most", 3.0),
            note=f"{note}, median {quantile(alone.answer_s, 0.5):.2f}",
        ),
        Row(
            ours="first progress",
            value=max(alone.first_s),
            unit="s",
            goal=Goal("at most", 0.3),
            note=note,
        ),
    ]


def rows(load: Load, *, seconds: float) -> list[Row]:
    """Waiting by kind of clip, rates, what went wrong, and whether memory grew."""
    answered, busy = load.statuses[200], load.statuses[429]
    result = [
        Row(
            ours=f"p95 wait for an answer, {kind}",
            value=quantile(load.waits_s[kind], 0.95),
            unit="s",
            note=f"median {quantile(load.waits_s[kind], 0.5):.2f}, n = {len(load.waits_s[kind])}",
        )
        for kind in KINDS
    ]
    wrong = sum(load.statuses.values()) - answered - busy
    codes = ", ".join(f"{code}: {n}" for code, n in sorted(load.statuses.items()))
    result += [
        Row(ours="answers", value=answered / seconds, unit="1/s", more_is_better=True),
        Row(ours="refusals with 429", value=busy / seconds, unit="1/s"),
        Row(
            ours="refusals that state a place in the queue",
            value=sum(p > 0 for p in load.positions) / busy if busy else 1.0,
            unit="of 1",
            goal=Goal("at least", 1.0),
            note=f"places {min(load.positions, default=0)} to {max(load.positions, default=0)}",
        ),
        Row(
            ours="errors other than 429",
            value=wrong,
            unit="",
            goal=Goal("at most", 0),
            note=f"status and count: {codes}",
        ),
    ]
    third = max(1, len(load.memory_mb) // 3)
    before, after = (
        max(load.memory_mb[third:-third] or load.memory_mb),
        max(load.memory_mb[-third:]),
    )
    result.append(
        Row(
            ours="memory of the last third, all processes",
            value=after,
            unit="MB",
            alternative="second third",
            other=before,
            goal=Goal("at most", round(before + SLACK_MB)),
            note=f"flat: within {SLACK_MB} MB",
        )
    )
    return result


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
