"""What the federated model is compared with, and the report at the end of a run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avser.bundle import serialization as bundle
from avser.evaluation.metrics import uar_of
from avser.evaluation.numbers import format_figure
from avser.evaluation.summary import summarise
from avser.federated.client.data import ModuleClient
from avser.federated.server.run_store import StoredRound
from avser.federated.simulation.partition import Client
from avser.federated.simulation.run import Simulation, figures_of, provenance_of
from avser.federated.weights import Arrays
from avser.files import atomic_write
from avser.types import Batch

COMPARISONS = ("central", "local")


def compare(simulation: Simulation, *, kinds: Sequence[str], resume: bool = True) -> dict[str, Any]:
    """Train the same model on all clips in one place, and on each client's alone.

    Both begin where the federation began, see the same training clips as often as the clients
    together, and rise and fall in learning rate alike; both are measured on the same test part.
    What is done stands in ``compare/<name>.json`` and is not done again.

    Args:
        simulation: whose rounds are done.
        kinds: of `COMPARISONS`.
        resume: take what is already there.
    """
    found: dict[str, Any] = {}
    tell = simulation.progress
    if "central" in kinds:
        tell.stage("central", _epochs(simulation))
        everyone = _everyone(simulation.clients)
        found["central"] = _trained(simulation, everyone, name="central", resume=resume)
    if "local" in kinds:
        tell.stage("alone", _epochs(simulation) * len(simulation.clients))
        found["local"] = {
            client.name: _trained(simulation, client, name=f"alone-{i:03d}", resume=resume)
            for i, client in enumerate(simulation.clients)
        }
    return found


def _everyone(clients: Sequence[Client]) -> Client:
    streams = {s for c in clients for s in c.streams}
    return Client(
        name="central",
        train=tuple(clip for c in clients if not c.attack for clip in c.train),
        streams=tuple(s for s in ("audio", "video") if s in streams),
    )


def _epochs(simulation: Simulation) -> int:
    s = simulation.settings
    return max(1, round(s.rounds * s.local_epochs * s.fraction))


def _trained(
    simulation: Simulation, client: Client, *, name: str, resume: bool
) -> dict[str, float]:
    path = simulation.folder / "compare" / f"{name}.json"
    if resume and path.is_file():
        known: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return known
    found = figures_of(simulation.predictions(_learned(simulation, client)))
    with atomic_write(path) as file:
        file.write(json.dumps(found) + "\n")
    return found


def _learned(simulation: Simulation, client: Client) -> Arrays:
    plan, s, learner = simulation.plan, simulation.settings, simulation.learner
    start = simulation.store.load(0).model
    learner.receive(start, simulation.constants)
    data = ModuleClient(simulation.data, client, batch_size=plan.batch_size)

    def batches(epoch: int) -> Iterator[Batch]:
        yield from data.batches(epoch, s.seed)

    learned = learner.train(
        batches,
        labels=data.labels,
        branches=("audio", "video", "fused"),
        epochs=_epochs(simulation),
        seed=s.seed,
        lr_scale=lambda share: s.lr_scale(1 + int(share * s.rounds)),
        average=0.99,
        progress=simulation.progress.reply,
    )
    return learned.arrays


# -- report --------------------------------------------------------------------------------------


def report(
    simulation: Simulation,
    kept: StoredRound,
    compared: Mapping[str, Any],
    *,
    name: str,
    config_text: str,
    commit: str | None,
) -> dict[str, Any]:
    """Measure, and write ``results.json``, ``report.html``, predictions and the bundle.

    Raises:
        SplitError: there is no test part.
    """
    from avser.data.audit import audit
    from avser.evaluation.report import write_report

    folder, data = simulation.folder, simulation.data
    predictions = simulation.predictions(kept.average)
    predictions.save(folder / "predictions" / "test.json")
    rows = [row for row in simulation.store.rows() if int(row["update"]) > 0]
    also = {
        k: figures_of(simulation.predictions(kept.average, d)) for k, d in simulation.also.items()
    }
    facts = {
        **federation(simulation, rows),
        "figures": figures_of(predictions),
        "held": _held(folder),
        **compared,
        "base": _base(simulation),
        "also": also,
    }
    summary = summarise(
        predictions,
        split=data.split.describe(),
        corpus=data.corpus.name,
        label_target=data.corpus.label_target,
        split_hash=data.parts.hash,
        model=name,
        parameters=sum(p.numel() for p in simulation.net.parameters()),
        seeds=[simulation.settings.seed],
        epochs=[simulation.settings.rounds],
        commit=commit,
        notes=[*data.parts.notes, *data.notes, *sentences(facts)],
        marks=data.marks,
    )
    summary["federated"] = facts
    losses = [float(row["loss"]) if row.get("loss") is not None else np.nan for row in rows]
    write_report(
        folder,
        summary,
        predictions=predictions,
        history={"train/loss": losses},
        audit=audit(data.parts, data.digests),
        config_text=config_text,
    )
    _release(simulation, kept, summary, name=name, commit=commit)
    return summary


def _release(
    simulation: Simulation,
    kept: StoredRound,
    summary: Mapping[str, Any],
    *,
    name: str,
    commit: str | None,
) -> None:
    bundle.save(
        simulation.network(kept.average),
        simulation.folder / "bundle",
        spec=simulation.plan.spec,
        name=name,
        provenance=provenance_of(simulation, commit=commit),
        figures=bundle.card_figures(summary),
    )
    with atomic_write(simulation.folder / "DONE") as file:
        file.write(f"{kept.update} rounds\n")


def _base(simulation: Simulation) -> dict[str, Any]:
    """The model before the first round, where it is worth a figure."""
    if simulation.settings.base == "empty":
        return {}
    start = simulation.store.load(0).model
    others = {k: figures_of(simulation.predictions(start, d)) for k, d in simulation.also.items()}
    return {"figures": figures_of(simulation.predictions(start)), "also": others}


def _held(folder: Path) -> dict[str, float]:
    """UAR of the global model on what each client held back."""
    path = folder / "held.json"
    if not path.is_file():
        return {}
    found = {}
    for client, counts in json.loads(path.read_text(encoding="utf-8")).items():
        size = round(len(counts) ** 0.5)
        square = np.array(counts).reshape(size, size)
        if square.sum():
            found[client] = round(float(uar_of(square)), 5)
    return found


def federation(simulation: Simulation, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the rounds cost and what was refused."""
    s = simulation.settings
    events = [str(line["what"]) for line in simulation.store.ledger()]
    asked = [max(1, int(r["asked"])) for r in rows]
    accountant = s.noise_and_clip
    found: dict[str, Any] = {
        "strategy": s.strategy,
        "clients": len(simulation.clients),
        "partition": s.partition if s.clients != "speaker" else "speaker",
        "clips_per_client": [
            min(len(c.train) for c in simulation.clients),
            max(len(c.train) for c in simulation.clients),
        ],
        "rounds": len(rows),
        "fraction": s.fraction,
        "local_epochs": s.local_epochs,
        "attack": s.attack,
        "secure_aggregation": s.secure_aggregation,
        "seconds_per_round": _mean([float(r["seconds"]) for r in rows]),
        "bytes_down_per_client_round": _mean(
            [float(r["bytes_down"]) / n for r, n in zip(rows, asked, strict=True)]
        ),
        "bytes_up_per_client_round": _mean(
            [float(r["bytes_up"]) / max(1, int(r["accepted"])) for r in rows]
        ),
        "accepted": events.count("accepted"),
        "refused": events.count("refused"),
        "capped": events.count("capped"),
        "late": events.count("late"),
    }
    if accountant is not None:
        from avser.federated.privacy.accounting import Accountant

        account = Accountant(noise=accountant[0], sampling=s.fraction, delta=s.delta)
        found["privacy"] = {
            "epsilon": round(account.epsilon(len(rows)), 4),
            "delta": s.delta,
            "noise": accountant[0],
            "clip": accountant[1],
            "sampling": s.fraction,
            "unit": "client",
            "told": account.state(len(rows)),
        }
    return found


def sentences(facts: Mapping[str, Any]) -> list[str]:
    """The federation in words, for tables and pages."""
    up, down = facts["bytes_up_per_client_round"], facts["bytes_down_per_client_round"]
    found = [
        f"federated: {facts['strategy']} over {facts['clients']} clients (partition "
        f"{facts['partition']}, {facts['clips_per_client'][0]} to {facts['clips_per_client'][1]} "
        f"training clips each), {facts['rounds']} rounds of {facts['local_epochs']} local epochs; "
        "the last round's model, nothing chosen",
        f"{facts['seconds_per_round']:.2f} s a round; a client receives {down / 1e6:.2f} MB and "
        f"sends {up / 1e6:.2f} MB in it",
    ]
    if facts["refused"] or facts["capped"] or facts["late"]:
        found.append(
            f"{facts['refused']} replies refused, {facts['capped']} capped, {facts['late']} late: "
            "see ledger.jsonl"
        )
    if "privacy" in facts:
        found.append(f"differential privacy: {facts['privacy']['told']}")
    if facts.get("attack"):
        found.append(f"bad clients: {facts['attack']}")
    if facts.get("base"):
        found.append(f"the base model before the first round: {_uar(facts['base']['figures'])}")
    for key, figures in facts.get("also", {}).items():
        before = facts.get("base", {}).get("also", {}).get(key)
        told = f", before {_uar(before)}" if before else ""
        found.append(f"on {key}: {_uar(figures)}{told}")
    if "central" in facts:
        found.append(f"trained centrally on the same clips: {_uar(facts['central'])}")
    if facts.get("local"):
        values = [row["uar"] for row in facts["local"].values()]
        found.append(f"each client alone, on the same test part: UAR {_spread(values)}")
    if facts.get("held"):
        values = list(facts["held"].values())
        found.append(f"global model on what each client held back: UAR {_spread(values)}")
    return found


def _uar(figures: Mapping[str, float]) -> str:
    return f"UAR {format_figure(figures['uar'])}, accuracy {format_figure(figures['accuracy'])}"


def _spread(values: Sequence[float]) -> str:
    low, middle, high = (format_figure(float(f(values))) for f in (np.min, np.median, np.max))
    return f"{low} to {high}, median {middle}"


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4) if values else 0.0
