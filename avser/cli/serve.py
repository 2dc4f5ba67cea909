"""``avser serve``: web page and HTTP API."""

import os
import sys
from collections.abc import Sequence

from avser.cli.parser import CommandParser

_HOST, _PORT = "127.0.0.1", 7860


def parser() -> CommandParser:
    """Return the command's parser."""
    from avser.web.limits import Limits

    own = Limits()
    p = CommandParser(
        "serve",
        "Serve a page on which people record or drop clips, and an HTTP API: "
        "POST /v1/classify, GET /v1/models, GET /healthz, GET /openapi.json.",
    )
    p.add_argument("--model", metavar="NAME|DIR", help="released model, bundle, or run folder")
    p.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, or auto: the fastest")
    p.add_argument("--host", default=_HOST, help="address to listen at; 127.0.0.1 is this "
                   "machine alone, 0.0.0.0 the network")  # fmt: skip
    p.add_argument("--port", type=int, default=_PORT, metavar="N", help="0 takes a free one")
    p.add_argument("--token", metavar="TOKEN", help="bearer token to ask for, and the page's "
                   "password; better given as the environment variable AVSER_TOKEN")  # fmt: skip
    p.add_argument("--max-upload", type=float, default=own.upload_mb, metavar="MB",
                   help="largest upload")  # fmt: skip
    p.add_argument("--max-duration", type=float, default=own.duration_s, metavar="SECONDS",
                   help="longest clip")  # fmt: skip
    p.add_argument("--concurrency", type=int, metavar="N", help="clips classified at once, each "
                   "by a process (default: number of cores, "
                   f"at most {own.concurrency})")  # fmt: skip
    p.add_argument("--queue", type=int, default=own.queue, metavar="N",
                   help="requests that may wait")  # fmt: skip
    p.add_argument("--time-limit", type=float, default=own.time_s, metavar="SECONDS",
                   help="longest duration of a request: upload, waiting and work")  # fmt: skip
    return p


def run(words: Sequence[str]) -> int:
    """Serve until interrupted."""
    from avser.extras import require
    from avser.web.limits import Limits

    own = parser().parse_args(list(words))
    require("web", "fastapi", "uvicorn", "websockets", "multipart")
    limits = Limits(
        upload_mb=own.max_upload,
        duration_s=own.max_duration,
        concurrency=min(Limits().concurrency, os.cpu_count() or 1)
        if own.concurrency is None
        else own.concurrency,
        queue=own.queue,
        time_s=own.time_limit,
    )
    token = own.token or os.environ.get("AVSER_TOKEN") or None
    from avser.web.server import listen_at, open_service, serve

    with listen_at(own.host, own.port) as at:
        port = at.getsockname()[1]
        print(f"avser serve: loading {limits.concurrency} worker(s) ...", file=sys.stderr)
        service = open_service(model=own.model, device=own.device, limits=limits)
        names = " and ".join(model.row["name"] for model in service.workers.models)
        print(f"{names} at http://{_shown(own.host)}:{port}", flush=True)
        print(_reach(own.host, token=token), flush=True)
        serve(service, at, token=token)
    return 0


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reach(host: str, *, token: str | None) -> str:
    """Say who can reach the server."""
    from avser.web.server import is_loopback

    if is_loopback(host):
        return "Only this machine can reach it; --host 0.0.0.0 opens it to the network."
    who = "who has the token" if token else "without a token (--token TOKEN asks for one)"
    return (
        f"OPEN TO THE NETWORK, to everybody {who}, and not encrypted: put a proxy with HTTPS "
        "before it, which browsers also ask for before they give a page the microphone."
    )
