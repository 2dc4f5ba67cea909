"""In-process grid: the same ServerApp and ClientApp functions, without a network."""

import copy
import uuid
from collections.abc import Callable, Iterable
from typing import cast

from flwr.app import Context, Error, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity


class InProcessGrid(Grid):
    """Runs a client app when its reply is pulled, in the order in which messages were pushed.

    Each node keeps its own context between messages, as a SuperNode does. One reply is
    returned per pull, so that a buffered server receives them one by one.

    Args:
        app: of the clients.
        nodes: their number; node ``i + 1`` has the partition ``i``.
        progress: called after each reply.
    """

    def __init__(
        self, app: ClientApp, *, nodes: int, progress: Callable[[], None] | None = None
    ) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id = 1, 1  # messages are stamped with them
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        self._app = app
        self._progress = progress
        self._contexts = {
            i + 1: _context(i + 1, {"partition-id": i, "num-partitions": nodes})
            for i in range(nodes)
        }
        self._waiting: dict[str, Message] = {}

    def server_context(self) -> Context:
        """Make a context for the server app."""
        return _context(SUPERLINK_NODE_ID, {})

    def set_run(self, run: Run) -> None:
        """Do nothing: there is one run."""

    @property
    def run(self) -> Run:
        """The one run."""
        return Run.create_empty(run_id=1)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See `Grid.create_message`."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages; return their ids."""
        ids = []
        for message in messages:
            message_id = uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = message_id
            self._waiting[message_id] = message
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run the client of the oldest pending message; return its reply."""
        wanted = set(message_ids)
        oldest = next((i for i in self._waiting if i in wanted), None)
        return [] if oldest is None else [self._answer(self._waiting.pop(oldest))]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Run the clients of all messages; return their replies."""
        ids = set(self.push_messages(messages))
        replies: list[Message] = []
        while ids & self._waiting.keys():
            replies += self.pull_messages(ids)
        return replies

    def _answer(self, message: Message) -> Message:
        context = self._contexts[message.metadata.dst_node_id]
        message.content = copy.deepcopy(message.content)  # a client may change what it was sent
        try:
            reply = self._app(message, context)
        except Exception as error:  # a client's failure is a reply, as it is on a network
            reason = f"{type(error).__name__}: {error}"
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
        reply.metadata.__dict__["_message_id"] = uuid.uuid4().hex
        if self._progress is not None:
            self._progress()
        return reply


def _context(node: int, config: dict[str, int]) -> Context:
    return Context(
        run_id=1,
        node_id=node,
        node_config=cast(UserConfig, config),
        state=RecordDict(),
        run_config=cast(UserConfig, {}),
    )
