"""``avser federate server``: coordinate a federation."""

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from avser.cli.config import Parser, locate, parse_data
from avser.cli.library_warnings import ignore_library_warnings
from avser.errors import AvserError, ConfigError
from avser.evaluation.numbers import format_figure

_POLL_S = 2.0  # between two looks for keys, rounds and events


def parser() -> Parser:
    """The command's own flags."""
    own = Parser(
        "federate server",
        "Coordinate a federation over Flower's SuperLink. Any setting may follow, "
        "such as --federated.deadline_s 600.",
    )
    own.add_argument(
        "--out", metavar="RUN", type=Path, help="run folder; an unfinished run resumes"
    )
    own.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 127.0.0.1 is this machine alone, 0.0.0.0 the network",
    )
    own.add_argument("--port", type=int, default=9092, metavar="N", help="port for clients")
    own.add_argument(
        "--http-port", type=int, default=9093, metavar="N", help="port of the HTTP API"
    )
    own.add_argument(
        "--keys", metavar="DIR", type=Path, help="keys, as avser federate keys server makes them"
    )
    own.add_argument("--insecure", action="store_true", help="without TLS and node keys")
    own.add_argument(
        "--test",
        action="append",
        default=[],
        metavar="DATA",
        help="configuration of a further corpus to evaluate on; may be repeated",
    )
    own.add_argument("--base", metavar="NAME|DIR", help="model to begin with")
    own.add_argument("--arm-b", metavar="NAME|DIR", help="a second model to compare with")
    own.add_argument("--rounds", metavar="R", type=int, help="updates of the global model")
    own.add_argument("--strategy", metavar="S", help="as of federate simulate")
    own.add_argument("--token", help="bearer token of the HTTP API")
    own.add_argument(
        "--show-names", action="store_true", help="publish contributors' names, not pseudonyms"
    )
    own.add_argument("--until-done", action="store_true", help="end after the last round")
    return own


def run(words: Sequence[str]) -> int:
    """Serve until interrupted."""
    own_parser = parser()
    own, rest = own_parser.split(_with_data(words))
    if own.out is None:
        own_parser.error("--out is missing; name the folder of the run, --out RUN/")
    if bool(own.keys) == own.insecure:
        raise ConfigError(
            "Bad server: give --keys KEYS, made with avser federate keys server, or --insecure."
        )
    for name in ("base", "rounds", "strategy"):
        value = getattr(own, name)
        rest += [f"--federated.{name}={value}"] if value is not None else []
    with ignore_library_warnings():
        return _serve(own, rest)


def _with_data(words: Sequence[str]) -> list[str]:
    """``--data FILE`` is ``-c FILE``, as long as it is no setting of the data."""
    return ["-c" if word == "--data" else word for word in words]


def _serve(own: Any, words: list[str]) -> int:  # noqa: ANN401
    from avser.federated.server.link import Link

    release = _prepare(own, words)
    link = Link(
        own.out,
        host=own.host,
        port=own.port,
        secrets=own.keys,
        registered=lambda name: print(f"registered {name}", flush=True),
    )
    with ExitStack() as stack:
        stack.callback(link.stop)
        try:
            link.start()
            access = "insecure, anybody may join" if own.insecure else "TLS and node keys"
            print(f"Federation at {own.host}:{own.port} ({access})", flush=True)
            link.register_keys()
            link.ensure_run()
            while not release.refresh():
                time.sleep(0.5)  # until the initial model is saved
            stack.callback(_start_api(own, release))
            _watch(own, link, release)
        except KeyboardInterrupt:
            print("avser federate server: stopped.", file=sys.stderr)
    return 0


def _prepare(own: Any, words: list[str]) -> Any:  # noqa: ANN401
    """Read the configuration and write what the run's own process needs."""
    from avser.cli.federate.simulate import read
    from avser.federated.client.learner import LocalTrainer
    from avser.federated.deployment.apps import write_session
    from avser.federated.server.releases import LatestRelease
    from avser.federated.server.run_store import RunStore, StoredRound
    from avser.federated.simulation.run import needs_statistics, start_from_base
    from avser.federated.weights import arrays_of, constants_of, has_batch_norm, names_of

    data, plan, settings, text = read(words)
    data.prepare_data()
    learner = LocalTrainer(plan, seed=settings.seed)
    before = None
    if settings.base != "empty":
        before = start_from_base(learner.net, settings.base)
    elif needs_statistics(learner.net):
        for encoder in (learner.net.audio, learner.net.video):
            if encoder is not None and encoder.needs_statistics:
                encoder.fit_statistics(data.loader([*data.parts.validation, *data.parts.train]))
    if has_batch_norm(learner.net) and settings.batch_norm == "refuse":
        raise ConfigError(
            "Bad model for federated training: it has batch norm; take one with group norm, or "
            "give --federated.batch_norm=local."
        )
    own.out.mkdir(parents=True, exist_ok=True)
    _same(own.out / "config.yaml", text)
    write_session(own.out, settings=settings, plan=plan, constants=constants_of(learner.net))
    store = RunStore(own.out)
    if store.latest() is None:
        start = arrays_of(learner.net, names_of(learner.net, ("audio", "video", "fused")))
        store.save(StoredRound(update=0, model=start, average=start, row={"seconds": 0.0}))
    labels = f"--data.emotions={json.dumps(list(plan.emotions))}"
    tests = {"test": data}
    for name in own.test:
        path = locate(name)
        tests[Path(path).stem] = parse_data(["-c", path, labels])
    extra = {"before": before} if before is not None else {}
    return LatestRelease(
        folder=own.out, tests=tests, arm=own.arm_b, show_names=own.show_names, **extra
    )


def _same(path: Path, text: str) -> None:
    from avser.files import atomic_write

    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"Bad run folder {path.parent}: it holds a federation of another configuration; "
            "choose another --out."
        )
    with atomic_write(path) as file:
        file.write(text)


def _start_api(own: Any, release: Any) -> Callable[[], None]:  # noqa: ANN401
    """Serve the HTTP API in a thread; return the function that closes it."""
    import uvicorn

    from avser.federated.deployment import keys
    from avser.federated.server.api import create_federation_api, start_federation_api

    service = start_federation_api(release)
    secrets = own.keys
    server = uvicorn.Server(
        uvicorn.Config(
            create_federation_api(release, service, token=own.token),
            host=own.host,
            port=own.http_port,
            log_level="warning",
            ssl_certfile=None if secrets is None else secrets / keys.CERTIFICATE,
            ssl_keyfile=None if secrets is None else str(secrets / keys.KEY),
        )
    )
    thread = threading.Thread(target=server.run, daemon=True, name="api")
    thread.start()
    scheme = "http" if own.keys is None else "https"
    print(f"Status and models at {scheme}://{own.host}:{own.http_port}", flush=True)

    def close() -> None:
        server.should_exit = True
        thread.join(timeout=5)
        service.close()

    return close


def _watch(own: Any, link: Any, release: Any) -> None:  # noqa: ANN401
    """Register clients, restart the run where it ended, release and evaluate its rounds."""
    printed = 0
    while True:
        done = (own.out / "DONE").exists()
        try:
            link.register_keys()
            if release.refresh():
                row = release.status()["measured"].get(str(release.update), {})
                figures = ", ".join(f"{k} UAR {format_figure(f['uar'])}" for k, f in row.items())
                print(f"round {release.update}: {figures or 'saved'}", flush=True)
            if not done:
                link.ensure_run()
        except AvserError as error:
            print(f"avser federate server: {error}", file=sys.stderr, flush=True)
        printed = _print_events(release, printed)
        if done and own.until_done:
            return
        time.sleep(_POLL_S)


def _print_events(release: Any, printed: int) -> int:  # noqa: ANN401
    """Print new events; return the number of all."""
    events = list(release.store.events())
    for event in events[printed:]:
        client = event.get("client", event.get("node", ""))
        texts = (str(event[key]) for key in ("reason", "detail") if event.get(key))
        if event["event"] != "accepted":
            print(f"{event['event']} {client} {': '.join(texts)}".rstrip(), flush=True)
    return len(events)
