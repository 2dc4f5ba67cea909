"""Server of a federated training: rounds of offers, checks, aggregation and commit.

A client that drops, hangs or replies late never blocks a round. A round ends at its deadline, or
soon after a quorum has replied. It is abandoned, and the model stays, where the quorum is missed.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.differential_privacy import KEY_CLIPPING_NORM

from avser.errors import ConfigError
from avser.federated.client.app import to_record
from avser.federated.server.aggregation import AdamServer, clipped_sum, mean_of, noisy_mean
from avser.federated.server.registry import POLL_S, ClientRegistry, Node
from avser.federated.server.run_store import StoredRound
from avser.federated.server.update_checks import (
    ClientUpdate,
    RefusalError,
    TrainingOffer,
    UpdateChecks,
)
from avser.federated.session import Session
from avser.federated.weights import Arrays, arrays_of, names_of

GRACE_S = 20.0  # shortest time for stragglers after the quorum


class Server:
    """Runs a session on a grid.

    Args:
        session: of the training.
        grid: of the clients' nodes.
        context: of the run.
    """

    def __init__(self, session: Session, grid: Grid, context: Context) -> None:
        self.session, self.grid, self.context = session, grid, context
        s = session.settings
        self.checks = UpdateChecks(
            limit=s.limit,
            max_examples=s.max_examples,
            weight_limit=s.weight_limit,
            independent=bool(s.dp),
        )
        self.registry = ClientRegistry(session, grid)
        self._failed = 0
        self.adam = AdamServer(lr=s.server_lr) if s.kind == "fedadam" else None
        stored = session.store.latest()
        if stored is None:
            names = names_of(session.net, ("audio", "video", "fused"))
            start = arrays_of(session.net, names)
            stored = StoredRound(update=0, model=start, average=start, row={"seconds": 0.0})
            session.store.save(stored)
        elif self.adam is not None:
            self.adam.load(stored.memory)
        self.current = stored

    def noise_rng(self, update: int) -> np.random.Generator | None:
        """Source of a round's noise; None is the system's."""
        return self.registry.rng("noise", update) if self.session.reproducible else None

    def privatise(self, total: Arrays, update: int) -> Arrays:
        """Turn a sum that one client moves by at most the clip into the step of a private round."""
        s = self.session.settings
        if s.noise_and_clip is None:
            raise ConfigError("Bad settings: a private round needs dp, such as noise:1,clip:0.5.")
        noise, clip = s.noise_and_clip
        expected = max(1.0, s.fraction * len(self.registry.nodes))
        rng = self.noise_rng(update)
        return noisy_mean(total, noise=noise, clip=clip, expected=expected, rng=rng)

    # -- messages ----------------------------------------------------------------------------

    def offer(
        self, node: Node, update: int, model: Arrays, *, turn: int = 0
    ) -> tuple[TrainingOffer, Message]:
        """Make an offer to train, and its message.

        Args:
            node: recipient.
            update: round, or version of the model.
            model: initial weights.
            turn: distinguishes offers of one client and version, so that their seeds differ.
        """
        session, s = self.session, self.session.settings
        base = {n: model[n] for n in names_of(session.net, node.branches)}
        offer = TrainingOffer(
            number=uuid.uuid4().hex,
            node=node.node,
            client=node.client,
            update=update,
            plan=session.plan.digest,
            base=base,
        )
        config = ConfigRecord(self.request(update, offer.number, turn=turn))
        if s.noise_and_clip is not None:
            config[KEY_CLIPPING_NORM] = s.noise_and_clip[1]
        content = RecordDict({"arrays": to_record(base), "config": config})
        message = Message(content, node.node, "train", ttl=2 * s.deadline_s, group_id=str(update))
        return offer, message

    def request(self, update: int, number: str, *, turn: int = 0) -> dict[str, Any]:
        """Settings that every offer has beside the weights."""
        session, s = self.session, self.session.settings
        return {
            "plan": session.plan.to_json(),
            "constants": session.constants,
            "offer": number,
            "round": update,
            "seed": s.seed + 1_000_003 * turn,
            "lr_scale": s.lr_scale(max(1, update)),
        }

    def replies(
        self, offers: Mapping[str, TrainingOffer], *, quorum: int | None
    ) -> Iterator[Message]:
        """Yield replies until all are there, or time is up.

        A quorum shortens the wait for the rest; without one (None) whether a reply counts does not
        depend on how fast others are.
        """
        started = time.monotonic()
        end = started + self.session.settings.deadline_s
        pending = set(offers)
        received = 0
        while pending and time.monotonic() < end and not self.session.stopped():
            replies = list(self.grid.pull_messages(sorted(pending)))
            for reply in replies:
                pending.discard(reply.metadata.reply_to_message_id)
                received += not reply.has_error()
                yield reply
                if received == quorum:  # stragglers have as long again
                    now = time.monotonic()
                    end = min(end, now + max(GRACE_S, now - started))
            if not replies:
                time.sleep(POLL_S)
        for number in pending:
            late = offers[number]
            self.session.store.log_event(
                "late", client=late.client, round=late.update, reason="no reply in time"
            )

    def check(self, reply: Message, offer: TrainingOffer | None) -> ClientUpdate | None:
        """Check a reply by itself; log the reason and return None if it is refused."""
        store = self.session.store
        try:
            update = self.checks.check(reply, offer)
        except RefusalError as error:
            client = offer.client if offer else str(reply.metadata.src_node_id)
            number = offer.update if offer else None
            detail = {"detail": error.detail} if error.detail else {}
            store.log_event("refused", client=client, round=number, reason=str(error), **detail)
            return None
        for text in update.notes:
            store.log_event(
                "capped", client=update.offer.client, round=update.offer.update, reason=text
            )
        return update

    def select(self, updates: Sequence[ClientUpdate]) -> list[ClientUpdate]:
        """Select the updates to aggregate, sorted by client, with bounded weights.

        Under differential privacy these are all of them: a selection must not compare clients.
        """
        selected = sorted(updates, key=lambda u: u.offer.client)
        if self.checks.independent:
            return selected
        selected, refused = self.checks.compare_norms(selected)
        selected, capped = self.checks.cap_weights(selected)
        for update in updates:
            for event, reasons in (("refused", refused), ("capped", capped)):
                reason = reasons.get(update.offer.number)
                if reason is not None:
                    self.session.store.log_event(
                        event,
                        client=update.offer.client,
                        round=update.offer.update,
                        reason=reason,
                    )
        return selected

    # -- rounds ------------------------------------------------------------------------------

    def run(self) -> StoredRound:
        """Run until all rounds are done; return the last."""
        self.registry.wait()
        while self.current.update < self.session.settings.rounds and not self.session.stopped():
            self.registry.refresh()
            if not self.registry.nodes:
                self.registry.wait()
                continue
            self.round(self.current.update + 1)
        return self.current

    def round(self, update: int) -> None:
        """Run one round; the model stays as it was where it fails."""
        started = time.monotonic()
        session = self.session
        sampled = self.registry.sample(update)
        made = [self.offer(node, update, self.current.model) for node in sampled]
        down = sum(r.count_bytes() for _, m in made for r in m.content.values())
        if session.secure is not None:
            step, facts = session.secure(self, sampled, update)
        else:
            step, facts = self._plain(made, update)
        if step is None:
            self.abandon(update, facts["reason"])
            return
        if self.adam is not None:
            step = self.adam.step(step, update)
        row = {**facts, "asked": len(sampled), "bytes_down": facts.get("bytes_down", down)}
        self.commit(update, step, row, seconds=time.monotonic() - started)

    def abandon(self, update: int, reason: str) -> None:
        """Log a failed round.

        Raises:
            ConfigError: too many rounds failed in a row.
        """
        self.session.store.log_event("abandoned", round=update, reason=reason)
        self._failed += 1
        patience = self.session.patience
        if patience is not None and self._failed >= patience:
            raise ConfigError(f"Bad federation: round {update} failed {patience} times: {reason}.")
        time.sleep(POLL_S)

    def _plain(
        self, made: Sequence[tuple[TrainingOffer, Message]], update: int
    ) -> tuple[Arrays | None, dict[str, Any]]:
        """Send offers, check each reply and aggregate."""
        session, s = self.session, self.session.settings
        ids = list(self.grid.push_messages([m for _, m in made])) if made else []
        offers = {i: o for i, (o, _) in zip(ids, made, strict=True) if i}
        private = s.noise_and_clip
        quorum = max(1, int(np.ceil(s.quorum * len(made))))
        accepted: list[ClientUpdate] = []
        for reply in self.replies(offers, quorum=quorum if private is None else None):
            one = self.check(reply, offers.get(reply.metadata.reply_to_message_id))
            if one is not None:
                accepted.append(one)
        selected = self.select(accepted)
        for one in selected:
            session.store.log_event(
                "accepted",
                client=one.offer.client,
                round=update,
                examples=one.examples,
                norm=round(one.norm, 4),
                bytes=one.size,
            )
            if s.keep_updates:
                session.store.save_update(update, one.offer.client, one.delta)
        facts = {
            "accepted": len(selected),
            "loss": _mean([u.loss for u in selected]),
            "bytes_up": sum(u.size for u in accepted),
            "norm": _mean([u.norm for u in selected]),
        }
        if private is not None:  # committed with any number of replies: every draw is accounted
            total = clipped_sum(selected, self.current.model, clip=private[1])
            return self.privatise(total, update), facts
        if len(selected) < quorum:
            reason = f"{len(selected)} of {len(made)} updates were accepted, {quorum} are needed"
            return None, {"reason": reason}
        try:
            return mean_of(selected, s), facts
        except ConfigError as error:
            return None, {"reason": str(error)}

    def commit(self, update: int, step: Arrays, row: Mapping[str, Any], *, seconds: float) -> None:
        """Take a step, evaluate where it is due, and save the round."""
        session, s = self.session, self.session.settings
        model = {n: a + step[n] if n in step else a for n, a in self.current.model.items()}
        if not all(np.isfinite(a).all() for a in model.values()):
            self.abandon(update, "the sum is not finite")
            return
        decay = min(s.average, update / (update + 9)) if s.average else 0.0
        average = {
            n: np.asarray(decay * self.current.average[n] + (1 - decay) * a, dtype=np.float32)
            for n, a in model.items()
        }
        facts = {**row, "seconds": round(seconds, 3)}
        if session.accountant is not None:
            facts["epsilon"] = round(session.accountant.epsilon(update), 4)
            facts["warning"] = session.accountant.warning(update)
        due = s.evaluate_every and update % s.evaluate_every == 0
        if session.measure is not None and due:
            facts |= session.measure(average)
        memory = self.adam.state() if self.adam is not None else {}
        self.current = StoredRound(
            update=update, model=model, average=average, memory=memory, row=facts
        )
        session.store.save(self.current)
        self._failed = 0
        session.finished({**facts, "update": update})

    def evaluate(self, model: Arrays) -> dict[str, list[int]]:
        """Return confusion counts of a model on each client's holdout clips."""
        messages = []
        for node in sorted(self.registry.nodes.values(), key=lambda n: n.client):
            message = self.offer(node, self.current.update, model)[1]
            messages.append(Message(message.content, node.node, "evaluate"))
        names = {n.node: n.client for n in self.registry.nodes.values()}
        confusions: dict[str, list[int]] = {}
        wait = self.session.settings.deadline_s
        for reply in self.grid.send_and_receive(messages, timeout=wait):
            if not reply.has_error():
                counts = reply.content.metric_records["metrics"]["confusion"]
                if isinstance(counts, list):
                    confusions[names[reply.metadata.src_node_id]] = [int(c) for c in counts]
        return confusions


def _mean(values: Sequence[float]) -> float | None:
    known = [v for v in values if np.isfinite(v)]
    return round(float(np.mean(known)), 5) if known else None


def make_server_app(
    make: Callable[[Context], Session], done: Callable[[Server], None]
) -> ServerApp:
    """Make Flower's ServerApp of a session.

    Args:
        make: makes the session from the run's context.
        done: called with the server when all rounds are done.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        from avser.federated.server.buffered import BufferedServer

        session = make(context)
        kind = BufferedServer if session.settings.buffer is not None else Server
        server = kind(session, grid, context)
        server.run()
        done(server)

    return app
