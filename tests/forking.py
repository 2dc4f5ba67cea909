"""Commands in processes of their own that start at once: forked from one that has imported all."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE_S = 300.0  # until a test fails; no wait is as long where all is well

_SERVER = """
import importlib, json, os, sys
import pytorch_lightning, sklearn, torch, torchmetrics
import avser.cli.classify, avser.cli.config, avser.cli.fit, avser.cli.prepare
import avser.inference.predictor, avser.training.fit
main = importlib.import_module(sys.argv[1]).main
print("ready", flush=True)
for line in sys.stdin:
    words, log, path, environment = json.loads(line)
    pid = os.fork()
    if not pid:
        os.setsid()
        os.environ.update(environment)
        sys.path[:0] = path
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = main(words)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def folder_size(folder: Path) -> int:
    """Bytes in a folder that changes meanwhile; 0 where there is none."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # it was renamed or removed
                total += os.stat(os.path.join(place, name)).st_size
    return total


class ForkServer:
    """A process that has imported all, and forks itself for each command; one for many tests.

    Args:
        module: whose function ``main`` runs the words of a command.
    """

    def __init__(self, module: str = "avser.cli") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, module],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self.line() == "ready"

    def send(self, request: object) -> None:
        """Ask for a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")

    def line(self) -> str:
        """The next line; read byte by byte, so that nothing waits in a buffer."""
        assert self._process.stdout is not None
        text = b""
        while not text.endswith(b"\n"):
            byte = self._process.stdout.read(1)
            assert byte, "the server of forks has ended"
            text += byte
        return text.decode().strip()

    def waits(self, seconds: float) -> bool:
        """Whether no line comes for so long."""
        return not select.select([self._process.stdout], [], [], seconds)[0]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class Forks:
    """Runs avser's commands, one at a time.

    Args:
        server: that forks.
        log: file for what they print.
        path: folders from which they may import.
        environment: beside this process's own.
    """

    def __init__(
        self,
        server: ForkServer,
        *,
        log: Path,
        path: Sequence[Path] = (),
        environment: dict[str, str],
    ) -> None:
        self._server, self.log = server, log
        self._path, self._environment = [str(p) for p in path], environment

    def run(
        self,
        words: Sequence[str],
        *,
        until: Callable[[], bool] = lambda: False,
        number: signal.Signals = signal.SIGKILL,
    ) -> int:
        """Run a command; signal it and what it started when something is so.

        Returns:
            Its exit code, negative where a signal ended it.
        """
        self._server.send([list(words), str(self.log), self._path, self._environment])
        pid, end = int(self._server.line()), time.monotonic() + PATIENCE_S
        while self._server.waits(0.002):
            assert time.monotonic() < end, self.said()
            if until():
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.killpg(pid, number)
                break
        return os.waitstatus_to_exitcode(int(self._server.line()))

    def said(self) -> str:
        """The end of what the commands printed."""
        return self.log.read_text()[-3000:] if self.log.exists() else ""
