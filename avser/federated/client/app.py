"""Flower ClientApp: registration, training and evaluation on a client's data."""

import hashlib
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

SCALED = -10.0  # factor on the update of a "scaled" attacker


class ClientData(Protocol):
    """Interface of a client's clips for training."""

    @property
    def name(self) -> str:
        """Name of the client, as the server logs it."""

    @property
    def streams(self) -> Sequence[str]:
        """Streams of its clips: "audio", "video"."""

    @property
    def attack(self) -> str:
        """Attack of a malicious client in an experiment; "" for honest ones."""

    @property
    def labels(self) -> Sequence[int]:
        """Class of every training clip."""

    def batches(self, epoch: int, seed: int) -> Iterable[Batch]:
        """Shuffled training batches of an epoch."""

    def holdout(self) -> Iterable[Batch]:
        """Whole clips of the holdout."""


DataSource = Callable[[Context, Plan], ClientData]


@lru_cache(maxsize=2)
def learner(plan_text: str) -> LocalTrainer:
    """Return the network of this process for a plan."""
    return LocalTrainer(Plan.from_json(plan_text))


def to_record(arrays: Arrays) -> ArrayRecord:
    """Convert named arrays to Flower's record."""
    return ArrayRecord({n: Array(np.ascontiguousarray(a)) for n, a in arrays.items()})


def from_record(record: ArrayRecord) -> Arrays:
    """Convert Flower's record to named float32 arrays."""
    return {n: np.asarray(a.numpy(), dtype=np.float32) for n, a in record.items()}


def seed_of(*parts: object) -> int:
    """Derive a seed that is equal on every trainer."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little")


@dataclass(frozen=True)
class _Request:
    """Content of a server's message."""

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


def make_client_app(find: DataSource, *, mods: Sequence[Any] = ()) -> ClientApp:
    """Make the app of clients.

    Args:
        find: returns the data of a context's client.
        mods: further modifiers around training, outermost first.
    """
    app = ClientApp()

    @app.query()
    def register(message: Message, context: Context) -> Message:
        """Return the client's name, streams and number of clips."""
        request = _Request.of(message)
        data = find(context, Plan.from_json(request.plan))
        registration = ConfigRecord(
            {
                "client": data.name,
                "streams": "+".join(data.streams),
                "examples": len(data.labels),
            }
        )
        return Message(RecordDict({"registration": registration}), reply_to=message)

    @app.train(mods=[*mods, _clip_if_asked])
    def train(message: Message, context: Context) -> Message:
        """Train on this client's clips and return the weights."""
        started = time.monotonic()
        request = _Request.of(message)
        trainer = learner(request.plan)
        data = find(context, trainer.plan)
        arrays, examples, loss = _train(trainer, data, request, context)
        receipt = ConfigRecord(
            {"offer": request.text("offer"), "plan": trainer.plan.digest, "client": data.name}
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
        """Evaluate the server's weights on this client's holdout."""
        request = _Request.of(message)
        trainer = learner(request.plan)
        data = find(context, trainer.plan)
        trainer.receive(request.arrays, request.constants, _own_statistics(context))
        confusion = trainer.confusion(data.holdout())
        metrics = MetricRecord(
            {"num-examples": int(confusion.sum()), "confusion": confusion.flatten().tolist()}
        )
        receipt = ConfigRecord({"client": data.name})
        return Message(RecordDict({"metrics": metrics, "receipt": receipt}), reply_to=message)

    return app


def _clip_if_asked(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Apply Flower's clipping of updates where the message states a norm."""
    config = message.content.config_records.get("config")
    if config is None or KEY_CLIPPING_NORM not in config:
        return call_next(message, context)
    return fixedclipping_mod(message, context, call_next)


def _train(
    trainer: LocalTrainer, data: ClientData, request: _Request, context: Context
) -> tuple[Arrays, int, float]:
    trainer.receive(request.arrays, request.constants, _own_statistics(context))
    if not data.labels:
        raise ConfigError(f"Bad data of {data.name}: it has no training clip.")
    plan = trainer.plan
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
    learned = trainer.train(
        batches,
        labels=labels,
        branches=branches_of(trainer.net, data.streams),
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


def without_video(batch: Batch) -> Batch:
    """Remove the video of a batch, for clients with audio alone."""
    batch["video_features"] = torch.full_like(batch["video_features"], torch.nan)
    batch["face_mask"] = torch.zeros_like(batch["face_mask"])
    return batch
