"""Simulation of a federated training on one machine or a Ray cluster."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any, Literal

import numpy as np
import torch

from avser.bundle import serialization as bundle
from avser.bundle.provenance import speakers_by_sex
from avser.bundle.serialization import Provenance
from avser.errors import ConfigError
from avser.evaluation.predict import predict
from avser.evaluation.predictions import Predictions
from avser.federated.client.app import make_client_app
from avser.federated.client.data import SimulatedClients
from avser.federated.client.learner import LocalTrainer
from avser.federated.plan import Plan
from avser.federated.server.app import Server, make_server_app
from avser.federated.server.run_store import RunStore, StoredRound
from avser.federated.session import Session
from avser.federated.settings import FederatedSettings
from avser.federated.simulation.grid import InProcessGrid
from avser.federated.simulation.partition import Client, make_clients
from avser.federated.weights import (
    Arrays,
    constants_of,
    has_batch_norm,
    load_arrays,
    refresh_statistics,
)
from avser.files import atomic_write
from avser.models.net import EmotionNet
from avser.training.transfer import refuse_known_speakers
from avser.types import Clip

Engine = Literal["inprocess", "flower"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Callbacks of a simulation: rounds, replies within a round, stages."""

    round: Callable[[Mapping[str, Any]], None] = lambda row: None
    reply: Callable[[], None] = lambda: None
    stage: Callable[[str, int], None] = lambda name, total: None


@dataclass(kw_only=True)
class Simulation:
    """A federated training over the clips of one data module.

    Args:
        data: the data module; its test part is never trained on.
        plan: of network and local training.
        settings: of the federation.
        folder: of the run.
        also: further data modules by name, on whose test parts the base model and the last one
            are evaluated too.
        progress: callbacks.
    """

    data: Any
    plan: Plan
    settings: FederatedSettings
    folder: Path
    also: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        parts = self.data.parts
        self.before = Provenance()
        self.learner = LocalTrainer(self.plan, seed=self.settings.seed)
        self.net: EmotionNet = self.learner.net
        based = self.settings.base != "empty"
        if based:
            self.before = start_from_base(self.net, self.settings.base)
            refuse_known_speakers([self.before], parts.test)
        norm = has_batch_norm(self.net)
        if norm and self.settings.batch_norm == "refuse":
            raise ConfigError(
                f"Bad model for federated training: {norm} is batch norm, whose statistics "
                "describe each client's voices; use group norm (model.audio.init_args.norm: group) "
                "or --federated.batch_norm=local, with which they are not sent."
            )
        needs = not based and needs_statistics(self.net)
        # the server's own speakers, for statistics that no client may send
        self.own: list[Clip] = list(parts.validation) if norm or needs else []
        if needs:
            self._fit_statistics()
        rows = [*parts.train, *([] if self.own else parts.validation)]
        streams = [s for s in ("audio", "video") if getattr(self.net, s) is not None]
        self.clients = make_clients(rows, self.settings, streams=streams)
        self.constants = constants_of(self.net)
        self.store = RunStore(self.folder, last=None if self.settings.keep_updates else 3)

    def _fit_statistics(self) -> None:
        for encoder in (self.net.audio, self.net.video):
            if encoder is not None and encoder.needs_statistics:
                encoder.fit_statistics(self.data.loader(self.own))

    # -- running -----------------------------------------------------------------------------

    def run(self, engine: Engine) -> StoredRound:
        """Run the remaining rounds; return the last."""
        silence_flower()
        write_clients(self.folder, self.clients)
        finished: list[StoredRound] = []

        def done(server: Server) -> None:
            finished.append(server.current)
            if engine == "inprocess" or not (self.folder / "holdout.json").exists():
                self._save_holdout_counts(server.evaluate(server.current.average))

        find = SimulatedClients(self.data, self.clients)
        s = self.settings
        mods: list[Any] = []
        session = Session(
            settings=s,
            plan=self.plan,
            net=self.net,
            constants=self.constants,
            store=self.store,
            measure=lambda average: self.measure(average),
            finished=self.progress.round,
        )
        if s.secure_aggregation:
            from avser.federated.privacy.secure_aggregation import SecureRound, secure_mods

            session.secure, mods = SecureRound(), secure_mods()
        client_app = make_client_app(find, mods=mods)
        server_app = make_server_app(lambda context: session, done)
        if engine == "inprocess":
            grid = InProcessGrid(client_app, nodes=len(self.clients), progress=self.progress.reply)
            context = grid.server_context()
            server_app(grid, context)
        else:
            crashed = Event()
            session.stopped = crashed.is_set
            try:
                run_on_flower(server_app, client_app, nodes=len(self.clients))
            finally:  # the engine doesn't end the server's thread where it fails itself
                crashed.set()
        if not finished:
            raise ConfigError("Bad run: the server ended before its last round; see its messages.")
        return finished[0]

    def _save_holdout_counts(self, counts: Mapping[str, Sequence[int]]) -> None:
        with atomic_write(self.folder / "holdout.json") as file:
            file.write(json.dumps(counts) + "\n")

    # -- measuring ---------------------------------------------------------------------------

    def network(self, arrays: Arrays) -> EmotionNet:
        """Load weights into the network, for evaluation."""
        load_arrays(self.net, arrays)
        if self.own:
            refresh_statistics(self.net, self.data.loader(self.own))
        return self.net.eval()

    def predictions(self, arrays: Arrays, data: Any = None) -> Predictions:  # noqa: ANN401
        """Predict the test part of the data, or of further data."""
        source = self.data if data is None else data
        net, test = self.network(arrays), source.parts.test
        classes = source.classes
        seen = {c.speaker for c in self.trained_on()} | set(self.before.speakers)
        return predict(net, source.loader(test), test, seen=seen, classes=classes)

    def measure(self, arrays: Arrays) -> dict[str, Any]:
        """UAR and accuracy on the test part, for curves; no model is selected by them."""
        if not self.data.parts.test:
            return {}
        return figures_of(self.predictions(arrays))

    def trained_on(self) -> list[Clip]:
        """Clips of all clients."""
        return [c for client in self.clients for c in (*client.train, *client.holdout)]


def figures_of(predictions: Predictions) -> dict[str, float]:
    """UAR, accuracy, macro precision and F1 of predictions."""
    from avser.evaluation.metrics import accuracy_of, confusion_matrix, macro_f1_of, uar_of

    counts = confusion_matrix(predictions.labels, predictions.predicted, len(predictions.emotions))
    columns = counts.sum(axis=0)
    known = columns > 0
    precision = np.diagonal(counts)[known] / columns[known]
    return {
        "uar": round(float(uar_of(counts)), 5),
        "accuracy": round(float(accuracy_of(counts)), 5),
        "precision": round(float(precision.mean()), 5),
        "macro_f1": round(float(macro_f1_of(counts)), 5),
    }


def start_from_base(net: EmotionNet, base: str) -> Provenance:
    """Load a released model's weights; return its provenance.

    Raises:
        ConfigError: it is another network, or has other classes.
    """
    loaded = bundle.load(base)
    if loaded.net.emotions != net.emotions:
        raise ConfigError(
            f"Bad base {base!r}: its classes are {', '.join(loaded.net.emotions)}, those of the "
            f"data {', '.join(net.emotions)}; set data.emotions and data.merge."
        )
    try:
        net.load_state_dict(loaded.net.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"Bad base {base!r}: it is another network than the configuration's; copy model from "
            "its config.yaml."
        ) from error
    return loaded.provenance


def needs_statistics(net: EmotionNet) -> bool:
    """Whether the front ends need statistics of training clips."""
    return any(e is not None and e.needs_statistics for e in (net.audio, net.video))


def run_on_flower(server_app: Any, client_app: Any, *, nodes: int) -> None:  # noqa: ANN401
    """Run both apps on Flower's simulation engine, which starts or joins a Ray cluster."""
    from flwr.simulation import run_simulation

    # what Ray will do by itself in later versions, and warns of until then
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray gives a worker as many threads as processors: the sums are then those of one process
    resources: dict[str, Any] = {"num_cpus": torch.get_num_threads(), "num_gpus": 0.0}
    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=nodes,
        backend_config={"client_resources": resources},
    )


def silence_flower() -> None:
    """Limit Flower's log to errors; rounds are printed by the command."""
    logging.getLogger("flwr").setLevel(logging.ERROR)


def write_clients(folder: Path, clients: Sequence[Client]) -> None:
    """Write the clients' clips, speakers and sexes, which the leakage audit needs."""
    rows = {
        c.name: {
            "clips": len(c.train),
            "held": len(c.holdout),
            "speakers": sorted({x.speaker for x in c.train}),
            "sexes": sorted({x.sex for x in c.train if x.sex}),
            "streams": list(c.streams),
            "attack": c.attack,
        }
        for c in clients
    }
    with atomic_write(folder / "clients.json") as file:
        file.write(json.dumps(rows, indent=1) + "\n")


def provenance_of(simulation: Simulation, *, commit: str | None) -> Provenance:
    """Provenance of the global model: all clients' clips, and the base model's."""
    from avser.data.splits import clip_name

    data, before = simulation.data, simulation.before
    known = [*simulation.trained_on(), *simulation.own]
    return replace(
        before,
        corpora=sorted({c.corpus for c in known}.union(before.corpora)),
        speakers=(speakers := sorted({c.speaker for c in known if c.speaker} | {*before.speakers})),
        sexes=speakers_by_sex(known, speakers),
        languages=[*dict.fromkeys([*data.corpus.languages, *before.languages])],
        digests=sorted({data.digests[clip_name(c)][:16] for c in known}.union(before.digests)),
        label_target=data.corpus.label_target,
        licence="; ".join(dict.fromkeys(t for t in (data.corpus.licence, before.licence) if t)),
        split=data.split_description,
        split_hash=data.parts.hash,
        merge=dict(data.labels.merge),
        seed=simulation.settings.seed,
        epochs=simulation.settings.rounds,
        commit=commit,
    )
