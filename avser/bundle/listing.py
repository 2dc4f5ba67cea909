"""What a released model's folder says of itself, without loading torch or the model."""

from pathlib import Path
from typing import Any

import yaml


def listed(folder: Path) -> dict[str, Any]:
    """Name, classes, size, streams, figure and licence of a bundle.

    Args:
        folder: of the bundle.
    """
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    trained = yaml.safe_load((folder / "trained_on.yaml").read_text(encoding="utf-8"))
    figures = config.get("figures") or {}
    return {
        "name": config["name"],
        "emotions": config["emotions"],
        "modalities": [stream for stream in ("audio", "video") if config["net"].get(stream)],
        "parameters": config["parameters"],
        "uar": figures.get("uar"),
        "split": figures.get("split"),
        "licence": trained["licence"],
    }
