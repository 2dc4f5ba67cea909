"""Description of a bundle from its text files, without loading torch or the model."""

from pathlib import Path
from typing import Any

from avser.bundle.provenance import read_config, read_provenance


def listed(folder: Path) -> dict[str, Any]:
    """Name, classes, size, streams, figure and licence of a bundle.

    Args:
        folder: of the bundle.

    Raises:
        BundleError: its text files are damaged.
    """
    config = read_config(folder)
    figures = config.get("figures") or {}
    return {
        "name": config["name"],
        "emotions": config["emotions"],
        "modalities": [stream for stream in ("audio", "video") if config["net"].get(stream)],
        "parameters": config["parameters"],
        "uar": figures.get("uar"),
        "split": figures.get("split"),
        "licence": read_provenance(folder).licence,
    }
