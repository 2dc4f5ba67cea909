"""Flower apps of the server and of clients; local settings come from the environment.

The server's process reads its run folder there, a client's the folder of its clips. Neither is
sent.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from avser.errors import ConfigError
from avser.federated.client.app import make_client_app
from avser.federated.client.data import FolderClient
from avser.federated.client.learner import LocalTrainer
from avser.federated.deployment.flower_commands import DATA, FEDERATION, NAME
from avser.federated.plan import Plan
from avser.federated.privacy.secure_aggregation import SecureRound, secure_mods
from avser.federated.server.app import Server, make_server_app
from avser.federated.server.run_store import RunStore
from avser.federated.session import Session
from avser.federated.settings import FederatedSettings
from avser.federated.weights import constants_of, load_constants
from avser.files import append_json_line, atomic_write

SENT = "sent.jsonl"


def write_session(
    folder: Path, *, settings: FederatedSettings, plan: Plan, constants: bytes
) -> None:
    """Write the settings of a run, for the server's process and for evaluation."""
    content = {"settings": vars(settings), "plan": plan.to_json(), "constants": constants.hex()}
    with atomic_write(folder / "session.json") as file:
        file.write(json.dumps(content) + "\n")


def read_session(folder: Path) -> tuple[FederatedSettings, LocalTrainer]:
    """Read the settings of a run; the trainer's network has the run's constants.

    Raises:
        ConfigError: they are missing or damaged.
    """
    try:
        session: Mapping[str, Any] = json.loads((folder / "session.json").read_text("utf-8"))
        settings, text = FederatedSettings(**session["settings"]), str(session["plan"])
        constants = bytes.fromhex(session["constants"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"Bad run folder {folder}: {error}; start the server anew.") from error
    learner = LocalTrainer(Plan.from_json(text), seed=settings.seed)
    load_constants(learner.net, constants)
    return settings, learner


def _session(context: Context) -> Session:
    folder = Path(os.environ[FEDERATION])
    settings, learner = read_session(folder)
    return Session(
        settings=settings,
        plan=learner.plan,
        net=learner.net,
        constants=constants_of(learner.net),
        store=RunStore(folder),
        reproducible=False,
        patience=None,
        secure=SecureRound() if settings.secure_aggregation else None,
    )


def _done(server: Server) -> None:
    with atomic_write(server.session.store.folder / "DONE") as file:
        file.write(f"{server.current.update} rounds\n")


def _data(folder: Path, plan: Plan) -> Any:  # noqa: ANN401
    """A data module of a contributor's folder."""
    from importlib import import_module

    from avser.data.splits import Resubstitution

    manifest = import_module("avser.datamodules.corpora.manifest").Manifest
    return import_module("avser.datamodules.clips").ClipDataModule(
        manifest(folder),
        Resubstitution(),
        emotions=list(plan.emotions),
        merge=dict(plan.merge),
        trim=plan.trim,
        crop_s=plan.crop_s,
    )


def _client_data(context: Context, plan: Plan) -> Any:  # noqa: ANN401
    folder = Path(os.environ[DATA])
    return FolderClient(folder, name=os.environ.get(NAME, "client"), make_data=_data)(context, plan)


def _record_sent(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Record locally how many bytes of weights leave this machine."""
    reply = call_next(message, context)
    size = 0 if reply.has_error() else sum(r.count_bytes() for r in reply.content.values())
    line = {"time": round(time.time(), 1), "round": message.metadata.group_id, "bytes": size}
    append_json_line(Path(os.environ[DATA]) / SENT, line)
    return reply


logging.getLogger("flwr").setLevel(logging.WARNING)
server_app = make_server_app(_session, _done)
client_app = make_client_app(_client_data, mods=[_record_sent, *secure_mods()])
