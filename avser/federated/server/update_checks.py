"""Checks of clients' replies before they are aggregated.

Each refusal has a one-sentence reason; the round continues without that update.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median, median_low

import numpy as np
from flwr.app import ArrayRecord, Message

from avser.errors import ConfigError
from avser.federated.weights import Arrays, difference, digest_of, norm_of

_OVERHEAD = 64 * 1024  # bytes of names, headers and metrics beside the arrays


@dataclass(frozen=True, kw_only=True)
class TrainingOffer:
    """Offer to train that a node received; its reply is checked against it.

    Attributes:
        number: random, echoed by the reply.
        node: recipient.
        client: its name.
        update: round, or version of the model, that was sent.
        plan: digest of the plan.
        base: the weights that were sent.
    """

    number: str
    node: int
    client: str
    update: int
    plan: str
    base: Arrays


@dataclass(frozen=True, kw_only=True)
class ClientUpdate:
    """Accepted reply: the update and its weight."""

    offer: TrainingOffer
    delta: Arrays
    examples: int
    loss: float
    size: int
    notes: tuple[str, ...] = ()

    @property
    def norm(self) -> float:
        """L2 norm of the update."""
        return norm_of(self.delta)


class RefusalError(Exception):
    """Why a reply is not accepted.

    Args:
        reason: without private data.
        detail: text of the client's own, for the operator alone; it may name people and paths.
    """

    def __init__(self, reason: str, *, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


@dataclass
class UpdateChecks:
    """Checks replies one by one, then a round's among each other.

    Args:
        limit: largest norm as a multiple of the round's median; None accepts any.
        max_examples: clips that a client's weight counts at most.
        weight_limit: largest weight as a multiple of the round's median; 0 weighs all clients
            alike, None accepts any.
        independent: check each client by its own messages alone, as differential privacy requires.

    Raises:
        ConfigError: independent checks with a limit on norms, which compares clients.
    """

    limit: float | None
    max_examples: int
    weight_limit: float | None = None
    independent: bool = False
    _seen: set[str] = field(default_factory=set)
    _norms: deque[float] = field(default_factory=lambda: deque(maxlen=50))

    def __post_init__(self) -> None:
        if self.independent and self.limit is not None:
            raise ConfigError(
                f"Bad norm limit {self.limit:g}: a median depends on all clients, and under "
                "differential privacy no check may; leave it out."
            )

    def check(self, reply: Message, offer: TrainingOffer | None) -> ClientUpdate:
        """Check one reply by itself.

        Args:
            reply: as received.
            offer: to which it replies, or None where that is not open.

        Raises:
            RefusalError: the reply is not accepted.
        """
        if reply.has_error():
            raise RefusalError("the client failed", detail=str(reply.error.reason))
        if offer is None:
            raise RefusalError("late or replayed: it replies to no open offer of this round")
        if reply.metadata.src_node_id != offer.node:
            raise RefusalError("replayed: another node received this offer")
        size = sum(record.count_bytes() for record in reply.content.values())
        allowed = 2 * sum(a.nbytes for a in offer.base.values()) + _OVERHEAD
        if size > allowed:
            raise RefusalError(f"oversized: {size:,} bytes, {allowed:,} is legal")
        try:
            return self._parsed(reply, offer, size)
        except RefusalError:
            raise
        except Exception as error:  # malformed messages may raise anything
            kind = type(error).__name__
            raise RefusalError(f"malformed: {kind}", detail=str(error)) from error

    def _parsed(self, reply: Message, offer: TrainingOffer, size: int) -> ClientUpdate:
        content = reply.content
        arrays, metrics, receipt = (
            content.array_records.get("arrays"),
            content.metric_records.get("metrics"),
            content.config_records.get("receipt"),
        )
        if arrays is None or metrics is None or receipt is None or len(content) != 3:
            raise RefusalError("malformed: expected arrays, metrics and receipt")
        if receipt.get("offer") != offer.number:
            raise RefusalError("replayed: it replies to another offer")
        if receipt.get("plan") != offer.plan:
            raise RefusalError("its model hash is another one's; the client should update")
        examples, notes = self._weight(metrics.get("num-examples"))
        delta = difference(self._arrays(arrays, offer.base), offer.base)
        if not all(np.isfinite(a).all() for a in delta.values()):
            raise RefusalError("its update is not finite")
        digest = digest_of(delta)
        if self.independent:
            digest = f"{offer.client} {digest}"  # other clients' updates must not matter
        if digest in self._seen:
            raise RefusalError("replayed: an identical update was accepted before")
        self._seen.add(digest)
        loss = metrics.get("loss")
        return ClientUpdate(
            offer=offer,
            delta=delta,
            examples=examples,
            loss=float(loss) if isinstance(loss, (int, float)) else math.nan,
            size=size,
            notes=notes,
        )

    def _weight(self, claim: object) -> tuple[int, tuple[str, ...]]:
        if isinstance(claim, bool) or not isinstance(claim, int) or claim < 1:
            raise RefusalError(f"it claims {claim!r} clips; a whole number from 1 is legal")
        if claim > self.max_examples:
            return self.max_examples, (f"claims {claim:,} clips, counted {self.max_examples:,}",)
        return claim, ()

    @staticmethod
    def _arrays(record: ArrayRecord, base: Arrays) -> Arrays:
        if set(record) != set(base):
            wrong = sorted(set(record) ^ set(base))[0]
            raise RefusalError(f"its arrays are not this model's: {wrong!r}")
        for name, array in record.items():
            # the claimed shape and dtype, before the bytes are parsed
            if tuple(array.shape) != base[name].shape:
                raise RefusalError(
                    f"wrong shape {tuple(array.shape)} of {name!r}, expected {base[name].shape}"
                )
            if array.dtype != "float32":
                raise RefusalError(f"wrong dtype {array.dtype} of {name!r}, expected float32")
        arrays = {name: record[name].numpy() for name in base}
        for name, value in arrays.items():
            if value.shape != base[name].shape or value.dtype != np.float32:
                raise RefusalError(f"wrong shape or dtype inside {name!r}")
        return arrays

    def compare_norms(
        self, updates: Sequence[ClientUpdate]
    ) -> tuple[list[ClientUpdate], Mapping[str, str]]:
        """Separate updates whose norm is far above the median, with the reasons.

        With fewer than 4 updates the norms of earlier rounds are used.
        """
        norms = [u.norm for u in updates]
        known = norms if len(norms) >= 4 else [*self._norms, *norms]
        if self.limit is None or len(known) < 2:
            self._norms.extend(norms)
            return list(updates), {}
        middle = median(known)
        taken: list[ClientUpdate] = []
        refused: dict[str, str] = {}
        for update, norm in zip(updates, norms, strict=True):
            if norm > self.limit * middle:
                refused[update.offer.number] = (
                    f"its norm {norm:.3g} is over {self.limit:g} times the median {middle:.3g}"
                )
            else:
                taken.append(update)
                self._norms.append(norm)
        return taken, refused

    def cap_weights(
        self, updates: Sequence[ClientUpdate]
    ) -> tuple[list[ClientUpdate], Mapping[str, str]]:
        """Bound what the clients' claimed numbers of clips count, with a reason for each cap.

        The median is that of the clients' claims, the lower one where their number is even: of two
        clients, the one that claims more is capped.
        """
        if self.weight_limit is None or not updates:
            return list(updates), {}
        if self.weight_limit == 0:
            return [replace(u, examples=1) for u in updates], {}
        claims: dict[str, int] = {}
        for update in updates:
            claims[update.offer.client] = max(update.examples, claims.get(update.offer.client, 0))
        middle = median_low(claims.values())
        most = max(1, int(self.weight_limit * middle))
        capped: dict[str, str] = {}
        for update in updates:
            if update.examples > most:
                capped[update.offer.number] = (
                    f"claims {update.examples:,} clips, counted {most:,}: {self.weight_limit:g} "
                    f"times the median {middle:,}"
                )
        return [replace(u, examples=min(u.examples, most)) for u in updates], capped
