"""Baselines of a federated training (central, local alone) and the report of a run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avser.bundle import serialization as bundle
from avser.evaluation.metrics import uar_of
from avser.evaluation.numbers import format_count, format_figure
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

    Both start from the federation's initial model, use the same training clips equally often and
    the same learning-rate schedule, and are evaluated on the same test part. Finished trainings
    are in ``compare/<name>.json`` and are not repeated.

    Args:
        simulation: with finished rounds.
        kinds: of `COMPARISONS`.
        resume: use finished trainings.
    """
    results: dict[str, Any] = {}
    progress = simulation.progress
    if "central" in kinds:
        progress.stage("central", _epochs(simulation))
        everyone = _everyone(simulation.clients)
        results["central"] = _trained(simulation, everyone, name="central", resume=resume)
    if "local" in kinds:
        progress.stage("alone", _epochs(simulation) * len(simulation.clients))
        results["local"] = {
            client.name: _trained(simulation, client, name=f"alone-{i:03d}", resume=resume)
            for i, client in enumerate(simulation.clients)
        }
    return results


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
    figures = figures_of(simulation.predictions(_learned(simulation, client)))
    with atomic_write(path) as file:
        file.write(json.dumps(figures) + "\n")
    return figures


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
    last: StoredRound,
    compared: Mapping[str, Any],
    *,
    name: str,
    config_text: str,
    commit: str | None,
) -> dict[str, Any]:
    """Evaluate, and write ``results.json``, ``report.html``, predictions and the bundle.

    Raises:
        SplitError: there is no test part.
    """
    from avser.data.audit import audit
    from avser.evaluation.report import write_report

    folder, data = simulation.folder, simulation.data
    predictions = simulation.predictions(last.average)
    predictions.save(folder / "predictions" / "test.json")
    rows = [row for row in simulation.store.rows() if int(row["update"]) > 0]
    also = {
        k: figures_of(simulation.predictions(last.average, d)) for k, d in simulation.also.items()
    }
    facts = {
        **federation(simulation, rows),
        "figures": figures_of(predictions),
        "held": _holdout_uar(folder),
        **compared,
        "base": _base(simulation),
        "also": also,
    }
    summary = summarise(
        predictions,
        split=data.split_description,
        corpus=data.corpus.name,
        label_target=data.corpus.label_target,
        split_hash=data.parts.hash,
        model=name,
        parameters=sum(p.numel() for p in simulation.net.parameters()),
        seeds=[simulation.settings.seed],
        epochs=[simulation.settings.rounds],
        commit=commit,
        notes=[*data.parts.notes, *data.notes, *describe_federation(facts)],
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
    _release(simulation, last, summary, name=name, commit=commit)
    return summary


def _release(
    simulation: Simulation,
    last: StoredRound,
    summary: Mapping[str, Any],
    *,
    name: str,
    commit: str | None,
) -> None:
    bundle.save(
        simulation.network(last.average),
        simulation.folder / "bundle",
        spec=simulation.plan.spec,
        name=name,
        provenance=provenance_of(simulation, commit=commit),
        figures=bundle.card_figures(summary),
    )
    with atomic_write(simulation.folder / "DONE") as file:
        file.write(f"{last.update} rounds\n")


def _base(simulation: Simulation) -> dict[str, Any]:
    """Results of the base model before the first round."""
    if simulation.settings.base == "empty":
        return {}
    start = simulation.store.load(0).model
    others = {k: figures_of(simulation.predictions(start, d)) for k, d in simulation.also.items()}
    return {"figures": figures_of(simulation.predictions(start)), "also": others}


def _holdout_uar(folder: Path) -> dict[str, float]:
    """UAR of the global model on each client's holdout."""
    path = folder / "holdout.json"
    if not path.is_file():
        return {}
    uars = {}
    for client, counts in json.loads(path.read_text(encoding="utf-8")).items():
        size = round(len(counts) ** 0.5)
        square = np.array(counts).reshape(size, size)
        if square.sum():
            uars[client] = round(float(uar_of(square)), 5)
    return uars


def federation(simulation: Simulation, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Costs of the rounds and numbers of refusals."""
    s = simulation.settings
    events = [str(line["event"]) for line in simulation.store.events()]
    asked = [max(1, int(r["asked"])) for r in rows]
    accountant = s.noise_and_clip
    facts: dict[str, Any] = {
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
        facts["privacy"] = {
            "epsilon": round(account.epsilon(len(rows)), 4),
            "delta": s.delta,
            "noise": accountant[0],
            "clip": accountant[1],
            "sampling": s.fraction,
            "unit": "client",
            "description": account.describe(len(rows)),
        }
    return facts


def clip_range(least: int, most: int) -> str:
    """Least and largest number of a client's training clips.

    >>> clip_range(16, 16), clip_range(16, 20)
    ('16 training clips', '16 to 20 training clips')
    """
    return f"{'' if least == most else f'{least} to '}{format_count(most, 'training clip')}"


def describe_federation(facts: Mapping[str, Any]) -> list[str]:
    """Describe the federation in sentences, for tables and pages."""
    up, down = facts["bytes_up_per_client_round"], facts["bytes_down_per_client_round"]
    lines = [
        f"federated: {facts['strategy']} over {facts['clients']} clients (partition "
        f"{facts['partition']}, {clip_range(*facts['clips_per_client'])} each), "
        f"{format_count(facts['rounds'], 'round')} of "
        f"{format_count(facts['local_epochs'], 'local epoch')}; "
        "the last round's model, no selection",
        f"{facts['seconds_per_round']:.2f} s a round; a client receives {down / 1e6:.2f} MB and "
        f"sends {up / 1e6:.2f} MB in it",
    ]
    if facts["refused"] or facts["capped"] or facts["late"]:
        lines.append(
            f"{facts['refused']} replies refused, {facts['capped']} capped, {facts['late']} late: "
            "see events.jsonl"
        )
    if "privacy" in facts:
        lines.append(f"differential privacy: {facts['privacy']['description']}")
    if facts.get("attack"):
        lines.append(f"malicious clients: {facts['attack']}")
    if facts.get("base"):
        lines.append(f"the base model before the first round: {_uar(facts['base']['figures'])}")
    for key, figures in facts.get("also", {}).items():
        before = facts.get("base", {}).get("also", {}).get(key)
        earlier = f", before {_uar(before)}" if before else ""
        lines.append(f"on {key}: {_uar(figures)}{earlier}")
    if "central" in facts:
        lines.append(f"trained centrally on the same clips: {_uar(facts['central'])}")
    if facts.get("local"):
        values = [row["uar"] for row in facts["local"].values()]
        lines.append(f"each client alone, on the same test part: UAR {_spread(values)}")
    if facts.get("held"):
        values = list(facts["held"].values())
        lines.append(f"global model on each client's holdout: UAR {_spread(values)}")
    return lines


def _uar(figures: Mapping[str, float]) -> str:
    return f"UAR {format_figure(figures['uar'])}, accuracy {format_figure(figures['accuracy'])}"


def _spread(values: Sequence[float]) -> str:
    low, middle, high = (format_figure(float(f(values))) for f in (np.min, np.median, np.max))
    return f"{low} to {high}, median {middle}"


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4) if values else 0.0
