"""Batches of a client's clips, in simulations and on contributors' machines."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Context
from torch.utils.data import DataLoader

from avser.data.dataset import LengthSampler, collate
from avser.federated.client.app import ClientData, without_video
from avser.federated.client.feature_store import CombinedClientData, StoredFeatures
from avser.federated.plan import Plan
from avser.federated.simulation.partition import Client, split_holdout
from avser.types import Batch, Clip


class ModuleClient:
    """Clips of a data module that belong to one client.

    Args:
        data: a data module such as `avser.datamodules.clips.ClipDataModule`.
        client: name and clips.
        batch_size: of training.
    """

    def __init__(self, data: Any, client: Client, *, batch_size: int) -> None:  # noqa: ANN401
        self._data, self._client, self._size = data, client, batch_size
        self._training = data.dataset(client.train, training=True)
        self.name, self.streams, self.attack = client.name, client.streams, client.attack
        self.labels: Sequence[int] = self._training.labels

    def batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        """Shuffled training batches of an epoch."""
        clips = self._training.clips
        lengths = [self._data.samples(c) for c in clips]
        order = LengthSampler(lengths, batch_size=self._size, seed=seed, now=lambda: epoch)
        for rows in order:
            yield self._without_missing(collate([self._training[i] for i in rows]))

    def holdout(self) -> Iterator[Batch]:
        """Whole clips of the holdout."""
        loader: DataLoader[Any] = self._data.loader(self._client.holdout)
        if self._client.holdout:
            yield from map(self._without_missing, loader)

    def _without_missing(self, batch: Batch) -> Batch:
        return batch if "video" in self.streams else without_video(batch)


class SimulatedClients:
    """Maps partition numbers of nodes to clients.

    It is pickled for worker processes: it holds paths and offsets of samples, no samples.

    Args:
        data: data module with the clips of all clients.
        clients: in the order of the partitions.
    """

    def __init__(self, data: Any, clients: Sequence[Client]) -> None:  # noqa: ANN401
        self.data, self.clients = data, list(clients)
        self._made: dict[tuple[int, int], ModuleClient] = {}

    def __call__(self, context: Context, plan: Plan) -> ModuleClient:
        """Return the client of a context."""
        index = int(str(context.node_config["partition-id"]))
        key = index, plan.batch_size
        if key not in self._made:
            client = self.clients[index]
            self._made[key] = ModuleClient(self.data, client, batch_size=plan.batch_size)
        return self._made[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}}


class FolderClient:
    """Clips of a contributor's folder, read again for each message.

    There is ``manifest.csv`` with recordings, as the `Manifest` corpus reads it, or ``features/``
    as written by `avser.federated.client.feature_store`, or both.

    Args:
        folder: of the contributor.
        name: of the client, as the server logs it.
        make_data: builds a data module of the recordings for a plan.
    """

    def __init__(self, folder: Path, *, name: str, make_data: Callable[[Path, Plan], Any]) -> None:
        self.folder, self.name, self._make = folder, name, make_data

    def __call__(self, context: Context, plan: Plan) -> ClientData:
        """Return the client of this machine."""
        features = StoredFeatures(self.folder, name=self.name, plan=plan)
        if not (self.folder / "manifest.csv").is_file():
            return features
        data = self._make(self.folder, plan)
        clips: list[Clip] = list(data.prepared.clips)
        train, holdout = split_holdout(clips, share=plan.holdout_share, seed=0)
        client = Client(name=self.name, train=tuple(train), holdout=tuple(holdout))
        recordings = ModuleClient(data, client, batch_size=plan.batch_size)
        return CombinedClientData(recordings, features) if features.labels else recordings
