"""The face detector as files for programs without torch."""

from dataclasses import dataclass
from pathlib import Path

import torch

from avser.export.graph import describe, translate
from avser.files import atomic_write
from avser.media.faces import MtcnnDetector


@dataclass(frozen=True)
class _Network:
    """Example input, its axes of any size, and the outputs in the network's order."""

    shape: tuple[int, ...]
    free: tuple[int, ...]
    outputs: tuple[str, ...]


_NETWORKS = {
    "pnet": _Network((1, 3, 61, 93), (2, 3), ("boxes", "scores")),
    "rnet": _Network((5, 3, 24, 24), (0,), ("boxes", "scores")),
    "onet": _Network((5, 3, 48, 48), (0,), ("boxes", "points", "scores")),
}


def save_detector(folder: str | Path, *, detector: MtcnnDetector | None = None) -> Path:
    """Write the three networks of MTCNN for `avser.media.faces.onnx_mtcnn.OnnxMtcnnDetector`.

    Args:
        folder: made where it is missing.
        detector: None is the default one.
    """
    folder = Path(folder)
    networks = (detector or MtcnnDetector()).networks
    for name, layout in _NETWORKS.items():
        network = networks[name].requires_grad_(False).to(memory_format=torch.contiguous_format)
        dynamic = ({axis: torch.export.Dim.DYNAMIC for axis in layout.free},)
        program = torch.export.export(
            network, (torch.zeros(layout.shape),), dynamic_shapes=dynamic, strict=False
        )
        model = translate(program, inputs=["x"], outputs=layout.outputs)
        describe(model, {"model": f"mtcnn_{name}", "licence": "MIT (facenet-pytorch)"})
        with atomic_write(folder / f"{name}.onnx", mode="wb") as file:
            file.write(model.SerializeToString())
    return folder
