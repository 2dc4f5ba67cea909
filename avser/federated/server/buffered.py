"""Updates as they come: the model moves at every N-th contribution (EmoNet's rule).

Every node always has one open offer. A contribution that was made on an older model than today's
counts less, by one over the root of one plus its age in updates.
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
    """What a contribution counts that is so many updates old."""
    return float(1 / np.sqrt(1 + max(0, age)))


def mixed(updates: list[ClientUpdate], *, now: int) -> Arrays:
    """Mean of contributions by their clips, each discounted by its age.

    The discount is not made up for: ten stale contributions move the model less than ten new ones.
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
    """A server without rounds; see the module."""

    def run(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """See `Server.run`."""
        self.roster.wait()
        self._offers: dict[str, TrainingOffer] = {}
        self._since: dict[str, float] = {}
        self._turns = 0
        in_vain = 0
        buffer: list[ClientUpdate] = []
        size = self.session.settings.buffer or 1
        rounds = self.session.settings.rounds
        started, up, down = time.monotonic(), 0, 0
        while self.kept.update < rounds and not self.session.stopped():
            down += self._offer_all()
            came = list(self.grid.pull_messages(sorted(self._offers, key=self._since.__getitem__)))
            for reply in came:
                offer = self._offers.pop(reply.metadata.reply_to_message_id, None)
                found = self.judge(reply, offer)
                if found is None or not self._plausible(found):
                    in_vain += 1
                    if in_vain % (10 * max(2, len(self.roster.nodes))) == 0:
                        self.abandon(self.kept.update + 1, f"{in_vain} replies were refused")
                    continue
                in_vain = 0
                up += found.size
                self._accept(found, buffer)
            if len(buffer) >= size:
                now = self.kept.update
                buffer = self._capped(buffer)
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
            if not came:
                self._drop_old()
                time.sleep(POLL_S)
        return self.kept

    def _accept(self, update: ClientUpdate, buffer: list[ClientUpdate]) -> None:
        age = self.kept.update - update.offer.update
        self.session.store.note(
            "accepted",
            client=update.offer.client,
            round=self.kept.update + 1,
            age=age,
            examples=update.examples,
            bytes=update.size,
        )
        if self.session.settings.keep_updates:
            self.session.store.keep_update(
                self.kept.update + 1, f"{update.offer.client}@{len(buffer)}", update.delta
            )
        buffer.append(update)

    def _plausible(self, update: ClientUpdate) -> bool:
        """Whether an update's norm is not far outside those that came before."""
        _, refused = self.guards.among([update])
        for reason in refused.values():
            self.session.store.note(
                "refused", client=update.offer.client, round=update.offer.update, reason=reason
            )
        return not refused

    def _capped(self, buffer: list[ClientUpdate]) -> list[ClientUpdate]:
        """The buffer with bounded weights."""
        bounded, capped = self.guards.cap_weights(buffer)
        for update in buffer:
            if (reason := capped.get(update.offer.number)) is not None:
                self.session.store.note(
                    "capped", client=update.offer.client, round=update.offer.update, reason=reason
                )
        return bounded

    def _offer_all(self) -> int:
        """Give every node without an open offer one; return the bytes."""
        self.roster.refresh()
        busy = {o.node for o in self._offers.values()}
        everyone = sorted(self.roster.nodes.values(), key=lambda n: n.client)
        free = [n for n in everyone if n.node not in busy]
        made = []
        for node in free:
            self._turns += 1
            made.append(self.offer(node, self.kept.update, self.kept.model, turn=self._turns))
        ids = list(self.grid.push_messages([m for _, m in made])) if made else []
        for number, (offer, _) in zip(ids, made, strict=True):
            if number:
                self._offers[number] = offer
                self._since[number] = time.monotonic()
        return sum(r.count_bytes() for _, m in made for r in m.content.values())

    def _drop_old(self) -> None:
        """Forget offers that nobody answers."""
        limit = time.monotonic() - self.session.settings.deadline_s
        for number in [i for i in self._offers if self._since[i] < limit]:
            gone = self._offers.pop(number)
            self.session.store.note(
                "late", client=gone.client, round=gone.update, reason="no reply in time"
            )
