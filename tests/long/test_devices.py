"""Every shipped configuration of a network on another device than the processor."""

from pathlib import Path

import pytest
import yaml
from device_walk import CONFIGS, walk

pytestmark = pytest.mark.long


def is_network(path: Path) -> bool:
    settings = yaml.safe_load(path.read_text())
    return "model" in settings and "corpus" not in settings.get("data", {})


FOLDERS = ("model", "fusion", "systems/*")
PATHS = sorted(p for f in FOLDERS for p in CONFIGS.glob(f"{f}/*.yaml") if is_network(p))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_config_trains_and_predicts_on_another_device(path: Path, tmp_path: Path) -> None:
    walk(str(path.relative_to(CONFIGS).with_suffix("")), tmp_path)
