"""``avser federate simulate``: train over the clients of a corpus on this machine."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avser.cli.config import Parser, locate, parse, parse_data
from avser.cli.library_warnings import ignore_library_warnings
from avser.errors import ConfigError
from avser.federated.settings import FederatedSettings

if TYPE_CHECKING:
    from rich.console import Console

    from avser.federated.plan import Plan

#: Flags that stand for ``--federated.<name>``.
_FLAGS: Mapping[str, tuple[str, str]] = {
    "clients": ("speaker|N", "one client for each speaker, or N clients"),
    "partition": ("KIND", "speaker, iid, balanced or dirichlet:A"),
    "rounds": ("R", "updates of the global model"),
    "strategy": ("S", "fedavg, fedprox, fedadam, trimmed_mean, krum or buffered:N"),
    "fraction": ("F", "share of the clients that a round samples"),
    "base": ("empty|NAME|DIR", "model to begin with"),
    "dp": ("noise:Z,clip:C", "client-level differential privacy"),
    "delta": ("D", "delta at which epsilon is stated"),
    "attack": ("KIND:N", "malicious clients of an experiment: label_flip:N or scaled:N"),
    "audio-only": ("N", "number of clients without video"),
    "local-epochs": ("E", "passes of a client over its clips in a round"),
    "norm-limit": ("X|null", "refuse updates over X times the median norm"),
    "evaluate-every": ("R", "rounds between evaluations on the test part; 0: the last alone"),
    "seed": ("S", "seed of partition, sampling and training"),
}


def parser() -> Parser:
    """The command's own flags."""
    own = Parser(
        "federate simulate",
        "Train over the clients of a corpus on this machine. Any setting may follow, such as "
        "--federated.quorum 0.8.",
    )
    own.add_argument("--out", metavar="RUN", type=Path, help="run folder; needed to train")
    for name, (metavar, text) in _FLAGS.items():
        default = getattr(FederatedSettings, name.replace("-", "_"))
        shown = "" if default == "" else f" (default: {default})"
        own.add_argument(f"--{name}", metavar=metavar, help=text + shown)
    own.add_argument(
        "--secure-aggregation",
        action="store_true",
        help="the server receives only the sum of the updates",
    )
    own.add_argument("--keep-updates", action="store_true", help="save each client's updates")
    own.add_argument(
        "--engine",
        choices=("inprocess", "flower"),
        default="inprocess",
        help="what runs the clients",
    )
    own.add_argument(
        "--compare",
        default="central,local",
        metavar="A,B",
        help="trainings to compare with: central, local, or none",
    )
    own.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="DATA",
        help="configuration of a further corpus to evaluate on; may be repeated",
    )
    own.add_argument("--name", help="name of the model (default: the run folder's)")
    own.add_argument("--overwrite", action="store_true", help="replace a finished run")
    own.add_argument("--json", metavar="FILE", type=Path, help="write the results there too")
    return own


def run(words: Sequence[str]) -> int:
    """Train, compare and report; resumes an unfinished run."""
    own_parser = parser()
    own, rest = own_parser.split(words)
    if own.out is None:
        own_parser.error("--out is missing; name the folder of the run, --out RUN/")
    kinds = [k for k in own.compare.split(",") if k and k != "none"]
    if set(kinds) - {"central", "local"}:
        raise ConfigError(f"Bad compare {own.compare!r}: expected central, local or none.")
    given = {n: getattr(own, n.replace("-", "_")) for n in _FLAGS}
    rest += [f"--federated.{n.replace('-', '_')}={v}" for n, v in given.items() if v is not None]
    rest += ["--federated.secure_aggregation=true"] if own.secure_aggregation else []
    rest += ["--federated.keep_updates=true"] if own.keep_updates else []
    with ignore_library_warnings():
        from avser.training.fit import claimed_run_folder

        with claimed_run_folder(own.out, overwrite=own.overwrite):
            return _run(own, rest, kinds)


def _run(own: Any, words: list[str], kinds: list[str]) -> int:  # noqa: ANN401
    from rich.console import Console

    from avser.cli.progress import counting, rounds
    from avser.evaluation.tables import print_table
    from avser.federated.simulation.compare import compare, report
    from avser.federated.simulation.run import Simulation
    from avser.files import atomic_write
    from avser.training.fit import keep_memory
    from avser.training.run_folder import commit_of

    keep_memory()
    data, plan, settings, text = read(words)
    _same_run(own.out, text)
    with counting("decoding") as bar:
        data.progress = bar
        data.prepare_data()
    also = {Path(n).stem: parse_data(_also(locate(n), plan, own.root)) for n in own.also}
    console = Console(stderr=own.json == Path("-"))
    with rounds(settings.rounds, console) as progress:
        simulation = Simulation(
            data=data, plan=plan, settings=settings, folder=own.out, also=also, progress=progress
        )
        _print_clients(simulation, console)
        last = simulation.run(own.engine)
        compared = compare(simulation, kinds=kinds)
    summary = report(
        simulation,
        last,
        compared,
        name=own.name or own.out.resolve().name,
        config_text=text,
        commit=commit_of(Path(__file__).parent),
    )
    print_table(summary, console)
    console.print(f"Report: {own.out / 'report.html'}\nModel: {own.out / 'bundle'}")
    if own.json is not None:
        with atomic_write(own.json) as file:
            file.write(json.dumps(summary, indent=1) + "\n")
    return 0


def read(words: list[str]) -> tuple[Any, "Plan", "FederatedSettings", str]:
    """Data module, plan and settings from the options of a command, and the configuration's text.

    Raises:
        ConfigError: a setting is wrong.
    """
    import yaml

    from avser.federated.plan import plan_of
    from avser.federated.settings import FederatedSettings
    from avser.types import ImageCorpus

    words = [*words, *_base_words(words)]
    setup = parse(
        words,
        trainer_defaults={"logger": False, "enable_model_summary": False, "accelerator": "cpu"},
        groups={"federated": FederatedSettings},
    )
    data = setup.data
    if isinstance(data.corpus, ImageCorpus):
        raise ConfigError(
            "Bad data: a corpus of pictures has no speakers; federated training takes corpora of "
            "clips."
        )
    config = yaml.safe_load(setup.text)
    settings = setup.groups["federated"]
    if not isinstance(settings, FederatedSettings):
        settings = FederatedSettings(**config["federated"])
    trainer, clips = config["trainer"], config["data"]["init_args"]
    plan = plan_of(
        config["model"],
        emotions=tuple(data.classes),
        merge=dict(data.labels.merge),
        local_epochs=settings.local_epochs,
        batch_size=settings.batch_size,
        crop_s=clips["crop_s"],
        trim=clips["trim"],
        holdout_share=settings.holdout_share,
        bfloat16="bf16" in str(trainer.get("precision")),
        clip_gradient=float(trainer.get("gradient_clip_val") or 0.0),
        proximal=settings.proximal if settings.kind == "fedprox" else 0.0,
        clip_update=settings.client_clip
        if settings.secure_aggregation and not settings.dp
        else 0.0,
    )
    return data, plan, settings, setup.text


def _base_words(words: Sequence[str]) -> list[str]:
    """Classes as the base model has them, unless the command says which."""
    base = next((w.partition("=")[2] for w in words if w.startswith("--federated.base=")), "empty")
    if base == "empty" or any(w.startswith("--data.emotions") for w in words):
        return []
    from avser.bundle import serialization as bundle

    loaded = bundle.load(base)
    merge = dict(loaded.provenance.merge)
    return [
        f"--data.emotions={json.dumps(list(loaded.net.emotions))}",
        *([f"--data.merge={json.dumps(merge)}"] if merge else []),
    ]


def _also(path: str, plan: "Plan", root: str | None) -> list[str]:
    words = ["-c", path, f"--data.emotions={json.dumps(list(plan.emotions))}"]
    return [*words, f"--data.merge={json.dumps(dict(plan.merge))}"] if plan.merge else words


def _same_run(folder: Path, text: str) -> None:
    """Save the configuration; refuse to resume with another one."""
    from avser.files import atomic_write

    path = folder / "config.yaml"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"Bad run folder {folder}: it holds an unfinished run of another configuration; "
            "choose another --out, or give --overwrite."
        )
    with atomic_write(path) as file:
        file.write(text)


def _print_clients(simulation: Any, console: "Console") -> None:  # noqa: ANN401
    """Print the clients, and where a run resumes."""
    from avser.federated.simulation.compare import clip_range

    sizes = [len(c.train) for c in simulation.clients]
    console.print(
        f"{len(sizes)} clients with {clip_range(min(sizes), max(sizes))} each",
        highlight=False,
    )
    stored = simulation.store.latest()
    if stored is not None and stored.update:
        console.print(f"resuming after round {stored.update}", highlight=False)
