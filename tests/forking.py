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
import json, os, sys
import pytorch_lightning, sklearn, torch, torchmetrics
import avser.cli.classify, avser.cli.config, avser.cli.fit, avser.cli.prepare
import avser.inference.predictor, avser.training.fit
from avser.cli import main
print("ready", flush=True)
for line in sys.stdin:
    words, log, path = json.loads(line)
    pid = os.fork()
    if not pid:
        os.setsid()
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


class Forks:
    """Runs avser's commands, one at a time.

    Args:
        log: file for what they print.
        path: folders from which they may import.
        environment: beside this process's own.
    """

    def __init__(
        self, log: Path, *, path: Sequence[Path] = (), environment: dict[str, str]
    ) -> None:
        self.log, self._path = log, [str(p) for p in path]
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        """The server's next line; read byte by byte, so that nothing waits in a buffer."""
        assert self._server.stdout is not None
        text = b""
        while not text.endswith(b"\n"):
            byte = self._server.stdout.read(1)
            assert byte, "the server of forks has ended"
            text += byte
        return text.decode().strip()

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
        assert self._server.stdin is not None and self._server.stdout is not None
        request = json.dumps([list(words), str(self.log), self._path])
        self._server.stdin.write(request.encode() + b"\n")
        pid, end = int(self._line()), time.monotonic() + PATIENCE_S
        while not select.select([self._server.stdout], [], [], 0.002)[0]:
            assert time.monotonic() < end, self.said()
            if until():
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.killpg(pid, number)
                break
        return os.waitstatus_to_exitcode(int(self._line()))

    def said(self) -> str:
        """The end of what the commands printed."""
        return self.log.read_text()[-3000:] if self.log.exists() else ""

    def close(self) -> None:
        """End the server."""
        self._server.kill()
        self._server.communicate()
