"""The client's side: Flower's ClientApp, over whatever data its owner gives it."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.clientapp.typing import ClientAppCallable
from flwr.supercore.differential_privacy import KEY_CLIPPING_NORM

from avser.errors import ConfigError
from avser.federated.client.learner import LocalTrainer, clipped
from avser.federated.plan import Plan
from avser.federated.weights import Arrays, branches_of, difference
from avser.types import Batch

SCALED = -10.0  # what a "scaled" attacker makes of its update


class ClientData(Protocol):
    """A participant's own clips, as training needs them."""

    @property
    def name(self) -> str:
        """Who it is, for the server's records."""

    @property
    def streams(self) -> Sequence[str]:
        """What its clips have: "audio", "video"."""

    @property
    def attack(self) -> str:
        """What a bad client of an experiment does; "" for honest ones."""

    @property
    def labels(self) -> Sequence[int]:
        """Class of every training clip."""

    def batches(self, epoch: int, seed: int) -> Iterable[Batch]:
        """Shuffled training batches of an epoch."""

    def held(self) -> Iterable[Batch]:
        """Clips that are kept for measuring, whole."""


Find = Callable[[Context, Plan], ClientData]


@lru_cache(maxsize=2)
def learner(plan_text: str) -> LocalTrainer:
    """The one network of this process for a plan."""
    return LocalTrainer(Plan.from_json(plan_text))


def to_record(arrays: Arrays) -> ArrayRecord:
    """Flower's record of named arrays."""
    return ArrayRecord({n: Array(np.ascontiguousarray(a)) for n, a in arrays.items()})


def from_record(record: ArrayRecord) -> Arrays:
    """Named arrays of Flower's record, as float32."""
    return {n: np.asarray(a.numpy(), dtype=np.float32) for n, a in record.items()}


def seed_of(*parts: object) -> int:
    """A seed that is the same on every machine."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little")


@dataclass(frozen=True)
class _Request:
    """What a message asks."""

    config: ConfigRecord
    arrays: Arrays

    @classmethod
    def of(cls, message: Message) -> "_Request":
        config = message.content.config_records["config"]
        record = message.content.array_records.get("arrays")
        return cls(config, from_record(record) if record is not None else {})

    def text(self, key: str) -> str:
        return str(self.config[key])

    @property
    def plan(self) -> str:
        return self.text("plan")

    @property
    def constants(self) -> bytes:
        value = self.config["constants"]
        return value if isinstance(value, bytes) else b""


def make_client_app(find: Find, *, mods: Sequence[Any] = ()) -> ClientApp:
    """Make the app that every client runs.

    Args:
        find: gives the data of the client that a context belongs to.
        mods: further modifiers around training, outermost first.
    """
    app = ClientApp()

    @app.query()
    def hello(message: Message, context: Context) -> Message:
        """Say who is there and what can be learned from."""
        request = _Request.of(message)
        data = find(context, Plan.from_json(request.plan))
        found = ConfigRecord(
            {
                "client": data.name,
                "streams": "+".join(data.streams),
                "examples": len(data.labels),
            }
        )
        return Message(RecordDict({"hello": found}), reply_to=message)

    @app.train(mods=[*mods, _clip_if_asked])
    def train(message: Message, context: Context) -> Message:
        """Train on this client's clips and give the weights back."""
        started = time.monotonic()
        request = _Request.of(message)
        machine = learner(request.plan)
        data = find(context, machine.plan)
        arrays, examples, loss = _train(machine, data, request, context)
        receipt = ConfigRecord(
            {"offer": request.text("offer"), "plan": machine.plan.digest, "client": data.name}
        )
        metrics = MetricRecord(
            {
                "num-examples": examples,
                "loss": loss,
                "seconds": time.monotonic() - started,
            }
        )
        content = RecordDict({"arrays": to_record(arrays), "metrics": metrics, "receipt": receipt})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        """Measure the server's weights on the clips that this client holds back."""
        request = _Request.of(message)
        machine = learner(request.plan)
        data = find(context, machine.plan)
        machine.receive(request.arrays, request.constants, _own_statistics(context))
        confusion = machine.confusion(data.held())
        metrics = MetricRecord(
            {"num-examples": int(confusion.sum()), "confusion": confusion.flatten().tolist()}
        )
        receipt = ConfigRecord({"client": data.name})
        return Message(RecordDict({"metrics": metrics, "receipt": receipt}), reply_to=message)

    return app


def _clip_if_asked(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Flower's clipping of an update, for messages that say to which norm."""
    config = message.content.config_records.get("config")
    if config is None or KEY_CLIPPING_NORM not in config:
        return call_next(message, context)
    return fixedclipping_mod(message, context, call_next)


def _train(
    machine: LocalTrainer, data: ClientData, request: _Request, context: Context
) -> tuple[Arrays, int, float]:
    machine.receive(request.arrays, request.constants, _own_statistics(context))
    if not data.labels:
        raise ConfigError(f"Bad data of {data.name}: it has no clip to learn from.")
    plan = machine.plan
    seed = seed_of(request.config["seed"], request.config["round"], data.name)
    scale = float(str(request.config["lr_scale"]))
    flip = data.attack == "label_flip"
    classes = len(plan.emotions)

    def batches(epoch: int) -> Iterator[Batch]:
        for batch in data.batches(epoch, seed):
            if flip:
                batch["label"] = classes - 1 - batch["label"]
            yield batch

    labels = [classes - 1 - y for y in data.labels] if flip else data.labels
    learned = machine.train(
        batches,
        labels=labels,
        branches=branches_of(machine.net, data.streams),
        epochs=plan.local_epochs,
        seed=seed,
        lr_scale=lambda share: scale,
        proximal=plan.proximal,
    )
    if learned.statistics:
        context.state.config_records["avser"] = ConfigRecord({"statistics": learned.statistics})
    arrays = learned.arrays
    old = {n: request.arrays[n] for n in arrays}
    if data.attack == "scaled":
        update = difference(arrays, old)
        arrays = {n: np.asarray(old[n] + SCALED * u, dtype=np.float32) for n, u in update.items()}
    if plan.clip_update > 0:
        arrays = clipped(arrays, old, plan.clip_update)
    return arrays, learned.examples, learned.loss


def _own_statistics(context: Context) -> bytes:
    record = context.state.config_records.get("avser")
    value = record["statistics"] if record is not None else b""
    return value if isinstance(value, bytes) else b""


def no_picture(batch: Batch) -> Batch:
    """The batch as it is of a client who has sound alone."""
    batch["video_features"] = torch.full_like(batch["video_features"], torch.nan)
    batch["face_mask"] = torch.zeros_like(batch["face_mask"])
    return batch


def plan_summary(text: str) -> str:
    """One line of what a plan asks, for the owner of the clips."""
    plan = json.loads(text)
    return (
        f"{plan['local_epochs']} passes in batches of {plan['batch_size']}, classes "
        f"{', '.join(plan['emotions'])}"
    )
