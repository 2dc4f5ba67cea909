"""A tiny federation for tests: a fake corpus, a network of some thousand parameters, clients."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import avser.federated  # noqa: F401 (it turns Flower's telemetry off before Flower is there)
from avser.data.splits import SpeakerKFold
from avser.datamodules.clips import ClipDataModule
from avser.datamodules.corpora.ravdess import Ravdess
from avser.federated.client.app import ClientData, make_client_app
from avser.federated.client.data import SimulatedClients
from avser.federated.plan import Plan
from avser.federated.server.app import Server
from avser.federated.session import Session
from avser.federated.settings import FederatedSettings
from avser.federated.simulation.grid import InProcessGrid
from avser.federated.simulation.run import Simulation
from avser.testing.corpora.ravdess import fake_ravdess
from avser.testing.nets import tiny_spec


def tiny_model(**audio: Any) -> dict[str, Any]:
    spec = tiny_spec()
    spec["audio"]["init_args"] |= {"norm": "group", **audio}
    return {**spec, "lr": 0.005}


def tiny_data(root: Path, *, speakers: int = 5, per_emotion: int = 2) -> ClipDataModule:
    fake_ravdess(root, speakers=speakers, per_emotion=per_emotion)
    return ClipDataModule(
        Ravdess(root),
        SpeakerKFold(folds=speakers),
        emotions=["happy", "sad", "angry"],
        batch_size=8,
    )


def tiny_plan(**more: Any) -> Plan:
    emotions = ("happy", "sad", "angry")
    return Plan(**{"model": tiny_model(), "emotions": emotions, "batch_size": 3, **more})


def tiny_settings(**more: Any) -> FederatedSettings:
    return FederatedSettings(
        **{
            "rounds": 2,
            "local_epochs": 1,
            "batch_size": 3,
            "holdout_share": 0.0,
            "average": 0.0,
            **more,
        }
    )


def simulation(
    root: Path, *, data: Any = None, plan: Plan | None = None, **more: Any
) -> Simulation:
    """A simulation of 4 speakers as clients, one unseen."""
    folder = root / more.pop("folder", "run")
    chosen = tiny_data(root / "ravdess") if data is None else data
    settings = tiny_settings(**more)
    return Simulation(data=chosen, plan=plan or tiny_plan(), settings=settings, folder=folder)


def make_server_of(sim: Simulation, *, app: Any = None, mods: Sequence[Any] = ()) -> Server:
    """A server of a simulation on a grid of its clients, or of another client app."""
    find = SimulatedClients(sim.data, sim.clients)
    client_app = app or make_client_app(find, mods=mods)
    grid = InProcessGrid(client_app, nodes=len(sim.clients))
    session = Session(
        settings=sim.settings,
        plan=sim.plan,
        net=sim.net,
        constants=sim.constants,
        store=sim.store,
    )
    return Server(session, grid, grid.server_context())


__all__ = ["ClientData", "make_server_of", "simulation", "tiny_data", "tiny_plan", "tiny_settings"]
