"""A client's clips as batches, in a simulation and on its owner's machine."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Context
from torch.utils.data import DataLoader

from avser.data.dataset import LengthSampler, collate
from avser.federated.client.app import ClientData, no_picture
from avser.federated.client.feature_store import CombinedFeatures, KeptFeatures
from avser.federated.plan import Plan
from avser.federated.simulation.partition import Client, hold_back
from avser.types import Batch, Clip


class ModuleClient:
    """Clips of a data module that belong to one client.

    Args:
        data: a data module such as `avser.datamodules.clips.ClipDataModule`.
        client: who, and which clips.
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
            yield self._seen(collate([self._training[i] for i in rows]))

    def held(self) -> Iterator[Batch]:
        """Clips that are kept for measuring, whole."""
        loader: DataLoader[Any] = self._data.loader(self._client.held)
        if self._client.held:
            yield from map(self._seen, loader)

    def _seen(self, batch: Batch) -> Batch:
        return batch if "video" in self.streams else no_picture(batch)


class SimulatedClients:
    """Finds a node's clips by its partition number.

    It travels to worker processes as it is: paths and places of samples, not samples.

    Args:
        data: the data module of all.
        clients: in the order of the partitions.
    """

    def __init__(self, data: Any, clients: Sequence[Client]) -> None:  # noqa: ANN401
        self.data, self.clients = data, list(clients)
        self._made: dict[tuple[int, int], ModuleClient] = {}

    def __call__(self, context: Context, plan: Plan) -> ModuleClient:
        """The client that a context belongs to."""
        index = int(str(context.node_config["partition-id"]))
        key = index, plan.batch_size
        if key not in self._made:
            client = self.clients[index]
            self._made[key] = ModuleClient(self.data, client, batch_size=plan.batch_size)
        return self._made[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}}


class FolderClient:
    """The clips of a contributor's folder, read anew when it changes.

    There is ``manifest.csv`` with recordings, as the `Manifest` corpus reads it, or ``features/``
    with what `avser.federated.client.feature_store` keeps, or both.

    Args:
        folder: of the contributor.
        name: who it is, for the server's records.
        make_data: builds a data module of the recordings for a plan.
    """

    def __init__(self, folder: Path, *, name: str, make_data: Callable[[Path, Plan], Any]) -> None:
        self.folder, self.name, self._make = folder, name, make_data

    def __call__(self, context: Context, plan: Plan) -> ClientData:
        """The one client of this machine."""
        features = KeptFeatures(self.folder, name=self.name, plan=plan)
        if not (self.folder / "manifest.csv").is_file():
            return features
        data = self._make(self.folder, plan)
        clips: list[Clip] = list(data.prepared.clips)
        train, held = hold_back(clips, share=plan.hold_back, seed=0)
        client = Client(name=self.name, train=tuple(train), held=tuple(held))
        recordings = ModuleClient(data, client, batch_size=plan.batch_size)
        return CombinedFeatures(recordings, features) if features.labels else recordings
