"""``avser serve``: web page and HTTP API."""

import argparse
import os
import sys
from collections.abc import Sequence

_HOST, _PORT = "127.0.0.1", 7860


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    from avser.web.limits import Limits

    own = Limits()
    p = argparse.ArgumentParser(
        prog="avser serve",
        description="Serve a page on which people record or drop clips, and an HTTP interface: "
        "POST /v1/classify, GET /v1/models, GET /healthz, GET /openapi.json.",
    )
    p.add_argument("--model", metavar="NAME|DIR", help="released model, bundle, or run folder")
    p.add_argument("--device", default="cpu", help="auto, cpu, cuda, cuda:1, mps")
    p.add_argument("--host", default=_HOST, help="address to listen at; the default is this "
                   "machine alone, 0.0.0.0 is the network")  # fmt: skip
    p.add_argument("--port", type=int, default=_PORT, help=f"0 takes a free one; {_PORT}")
    p.add_argument("--token", metavar="TOKEN", help="bearer token to ask for, and the page's "
                   "password; better given as the environment variable AVSER_TOKEN")  # fmt: skip
    p.add_argument("--max-upload", type=float, default=own.upload_mb, metavar="MB",
                   help=f"largest upload; {own.upload_mb:g}")  # fmt: skip
    p.add_argument("--max-duration", type=float, default=own.duration_s, metavar="SECONDS",
                   help=f"longest clip; {own.duration_s:g}")  # fmt: skip
    p.add_argument("--concurrency", type=int, metavar="N", help="clips at work at once, a process "
                   f"each; as many as cores, at most {own.concurrency}")  # fmt: skip
    p.add_argument("--queue", type=int, default=own.queue, metavar="N",
                   help=f"requests that may wait; {own.queue}")  # fmt: skip
    p.add_argument("--time-limit", type=float, default=own.time_s, metavar="SECONDS",
                   help=f"for upload, waiting and work of a request; {own.time_s:g}")  # fmt: skip
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
