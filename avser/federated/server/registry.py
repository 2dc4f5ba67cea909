"""Registry of clients and sampling of the clients of a round."""

import time
from dataclasses import dataclass

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from avser.federated.session import Session
from avser.federated.weights import branches_of

POLL_S = 0.3  # pause between two polls without a reply
_STREAMS = {"sample": 6, "noise": 7}  # draws for different purposes must not repeat each other
RETRY_S = 20.0  # pause before a node that failed to register is queried again


@dataclass(frozen=True, kw_only=True)
class Node:
    """A registered node."""

    node: int
    client: str
    branches: tuple[str, ...]
    examples: int


class ClientRegistry:
    """Registered nodes of a grid.

    Args:
        session: of the training.
        grid: whose nodes are registered.
    """

    def __init__(self, session: Session, grid: Grid) -> None:
        self.session, self.grid = session, grid
        self.nodes: dict[int, Node] = {}
        self._retry_at: dict[int, float] = {}

    def refresh(self) -> None:
        """Register new nodes and remove those that left."""
        there = set(self.grid.get_node_ids())
        for node in self.nodes.keys() - there:
            gone = self.nodes.pop(node)
            self.session.store.log_event("left", client=gone.client, node=str(node))
        now = time.monotonic()
        new = [n for n in sorted(there - self.nodes.keys()) if self._retry_at.get(n, 0.0) <= now]
        if not new:
            return
        content = RecordDict({"config": ConfigRecord({"plan": self.session.plan.to_json()})})
        wait = min(self.session.settings.deadline_s, 120.0)
        messages = [Message(content, node, "query", ttl=wait) for node in new]
        for reply in self.grid.send_and_receive(messages, timeout=wait):
            self._register(reply)
        for node in new:
            if node not in self.nodes:
                self._retry_at[node] = now + RETRY_S

    def _register(self, reply: Message) -> None:
        node = reply.metadata.src_node_id
        note = self.session.store.log_event
        if reply.has_error():
            note(
                "refused",
                node=str(node),
                reason="it could not join",
                detail=str(reply.error.reason),
            )
            return
        try:
            registration = reply.content.config_records["registration"]
            client, streams = (
                str(registration["client"])[:80],
                str(registration["streams"]).split("+"),
            )
            examples = int(str(registration["examples"]))
            branches = branches_of(self.session.net, streams)
            if not branches:
                raise ValueError(f"streams {streams} are not this model's")
        except (KeyError, ValueError) as error:
            note("refused", node=str(node), reason="malformed registration", detail=str(error))
            return
        if any(n.client == client for n in self.nodes.values()):
            client = f"{client}#{node}"
        self.nodes[node] = Node(node=node, client=client, branches=branches, examples=examples)
        note("joined", client=client, node=str(node), examples=examples)

    def wait(self) -> None:
        """Wait until enough nodes are registered for a first round."""
        least = max(1, self.session.settings.min_clients)
        while not self.session.stopped():
            self.refresh()
            if len(self.nodes) >= least:
                return
            time.sleep(POLL_S)

    def sample(self, update: int) -> list[Node]:
        """Draw the nodes of a round; equal names and seed give equal draws."""
        s = self.session.settings
        rows = sorted(self.nodes.values(), key=lambda n: n.client)
        rng = self.rng("sample", update)
        if s.noise_and_clip is not None:  # independent draws, as the accountant assumes
            return [n for n, r in zip(rows, rng.random(len(rows)), strict=True) if r < s.fraction]
        count = max(1, round(s.fraction * len(rows)))
        picked = rng.choice(len(rows), size=count, replace=False)
        return [rows[i] for i in sorted(picked.tolist())]

    def rng(self, purpose: str, update: int) -> np.random.Generator:
        """Source of draws for "sample" or "noise": the seed in simulations, else the system."""
        if not self.session.reproducible:
            return np.random.default_rng()
        return np.random.default_rng((self.session.settings.seed, _STREAMS[purpose], update))
