"""Process that trains what it is asked for on its standard input; see `FitProcesses`.

A request is the words of ``avser fit``, as a JSON list on one line; the reply is its exit code, and
whether another request may follow.
"""

import json
import os
import sys
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread

from avser.cli import main


def train_requested() -> None:
    """Train until the standard input ends, and with it the process that asks."""
    replies = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)  # tables are printed by the calling process
    for words in _requests():
        sys.argv[1:] = ["fit", *words]  # what further processes of a training are started with
        try:
            code = main(sys.argv[1:])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        sys.stderr.flush()
        again = "WORLD_SIZE" not in os.environ  # several processes leave their group behind
        print(json.dumps([code, again]), file=replies, flush=True)
        if not again:
            return


def _requests() -> Iterator[list[str]]:
    lines: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(1)  # the calling process is gone, and another one may use the folder

    Thread(target=read, daemon=True).start()
    while True:
        yield json.loads(lines.get())


if __name__ == "__main__":
    if sys.argv[1:]:  # a further process of a training
        sys.exit(main(sys.argv[1:]))
    train_requested()
