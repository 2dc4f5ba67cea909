"""Buffered asynchronous aggregation: the model is updated at every N-th contribution.

Every node always has one open offer. A contribution to an older model is weighted by one over the
root of one plus its age in updates.
Source: EmoNet updates its base model at every tenth contribution; the discount is that of Nguyen et
al., "Federated Learning with Buffered Asynchronous Aggregation", 2022.
"""

import time

import numpy as np

from avser.federated.server.app import Server
from avser.federated.server.registry import POLL_S
from avser.federated.server.update_checks import ClientUpdate, TrainingOffer
from avser.federated.weights import Arrays


def discount(age: int) -> float:
    """Weight of a contribution that is so many updates old."""
    return float(1 / np.sqrt(1 + max(0, age)))


def mixed(updates: list[ClientUpdate], *, now: int) -> Arrays:
    """Mean of contributions, weighted by clips and discounted by age.

    Weights are not normalised by the discount: ten stale contributions move the model less than ten
    new ones.
    """
    total: Arrays = {}
    weights: dict[str, float] = {}
    for update in updates:
        factor = discount(now - update.offer.update) * update.examples
        for name, delta in update.delta.items():
            part = np.asarray(factor * delta, dtype=np.float32)
            total[name] = total[name] + part if name in total else part
            weights[name] = weights.get(name, 0.0) + update.examples
    return {n: np.asarray(a / weights[n], dtype=np.float32) for n, a in total.items()}


class BufferedServer(Server):
    """Server without rounds; see the module."""

    def run(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """See `Server.run`."""
        self.registry.wait()
        self._offers: dict[str, TrainingOffer] = {}
        self._since: dict[str, float] = {}
        self._turns = 0
        refused = 0
        buffer: list[ClientUpdate] = []
        size = self.session.settings.buffer or 1
        rounds = self.session.settings.rounds
        started, up, down = time.monotonic(), 0, 0
        while self.current.update < rounds and not self.session.stopped():
            down += self._offer_all()
            replies = list(
                self.grid.pull_messages(sorted(self._offers, key=self._since.__getitem__))
            )
            for reply in replies:
                offer = self._offers.pop(reply.metadata.reply_to_message_id, None)
                update = self.check(reply, offer)
                if update is None or not self._within_norm_limit(update):
                    refused += 1
                    if refused % (10 * max(2, len(self.registry.nodes))) == 0:
                        self.abandon(self.current.update + 1, f"{refused} replies were refused")
                    continue
                refused = 0
                up += update.size
                self._accept(update, buffer)
            if len(buffer) >= size:
                now = self.current.update
                buffer = self._cap_weights(buffer)
                ages = [now - u.offer.update for u in buffer]
                row = {
                    "accepted": len(buffer),
                    "asked": len(self._offers) + len(buffer),
                    "stale": sum(a > 0 for a in ages),
                    "oldest": max(ages),
                    "loss": float(np.mean([u.loss for u in buffer])),
                    "bytes_up": up,
                    "bytes_down": down,
                }
                self.commit(
                    now + 1, mixed(buffer, now=now), row, seconds=time.monotonic() - started
                )
                buffer, up, down, started = [], 0, 0, time.monotonic()
            if not replies:
                self._drop_old()
                time.sleep(POLL_S)
        return self.current

    def _accept(self, update: ClientUpdate, buffer: list[ClientUpdate]) -> None:
        age = self.current.update - update.offer.update
        self.session.store.log_event(
            "accepted",
            client=update.offer.client,
            round=self.current.update + 1,
            age=age,
            examples=update.examples,
            bytes=update.size,
        )
        if self.session.settings.keep_updates:
            self.session.store.save_update(
                self.current.update + 1, f"{update.offer.client}@{len(buffer)}", update.delta
            )
        buffer.append(update)

    def _within_norm_limit(self, update: ClientUpdate) -> bool:
        """Whether an update's norm is not far above those of earlier updates."""
        _, refused = self.checks.compare_norms([update])
        for reason in refused.values():
            self.session.store.log_event(
                "refused", client=update.offer.client, round=update.offer.update, reason=reason
            )
        return not refused

    def _cap_weights(self, buffer: list[ClientUpdate]) -> list[ClientUpdate]:
        """The buffer with bounded weights."""
        bounded, capped = self.checks.cap_weights(buffer)
        for update in buffer:
            if (reason := capped.get(update.offer.number)) is not None:
                self.session.store.log_event(
                    "capped", client=update.offer.client, round=update.offer.update, reason=reason
                )
        return bounded

    def _offer_all(self) -> int:
        """Send an offer to every node without one; return the bytes sent."""
        self.registry.refresh()
        busy = {o.node for o in self._offers.values()}
        everyone = sorted(self.registry.nodes.values(), key=lambda n: n.client)
        free = [n for n in everyone if n.node not in busy]
        made = []
        for node in free:
            self._turns += 1
            made.append(self.offer(node, self.current.update, self.current.model, turn=self._turns))
        ids = list(self.grid.push_messages([m for _, m in made])) if made else []
        for number, (offer, _) in zip(ids, made, strict=True):
            if number:
                self._offers[number] = offer
                self._since[number] = time.monotonic()
        return sum(r.count_bytes() for _, m in made for r in m.content.values())

    def _drop_old(self) -> None:
        """Drop offers without a reply in time."""
        limit = time.monotonic() - self.session.settings.deadline_s
        for number in [i for i in self._offers if self._since[i] < limit]:
            expired = self._offers.pop(number)
            self.session.store.log_event(
                "late", client=expired.client, round=expired.update, reason="no reply in time"
            )
