"""Scripts for Flower's helper processes.

Flower starts its processes by name, which fails where its scripts are not on the PATH. A folder
with a small script for each is put there; the scripts use the running Python interpreter.
"""

import os
import shlex
import stat
import sys
from collections.abc import MutableMapping
from pathlib import Path

#: Environment variables of a server's and a client's processes.
FEDERATION, DATA, NAME = "AVSER_FEDERATION", "AVSER_FEDERATION_DATA", "AVSER_FEDERATION_NAME"

_COMMANDS = {
    "flower-superexec": "flwr.supercore.cli.flower_superexec:flower_superexec",
    "flwr-serverapp": "flwr.superlink.cli.flwr_serverapp:flwr_serverapp",
    "flwr-clientapp": "flwr.supernode.cli.flwr_clientapp:flwr_clientapp",
}


def prepare(folder: Path, environment: MutableMapping[str, str]) -> None:
    """Write the commands into a folder and set the environment of Flower's processes.

    Telemetry, looking for updates and installing anything are off, and no GPU is touched.

    Args:
        folder: for commands, settings and unpacked apps; it is made.
        environment: to change.
    """
    scripts = folder / "bin"
    scripts.mkdir(parents=True, exist_ok=True)
    for name, target in _COMMANDS.items():
        module, _, function = target.partition(":")
        code = f"import avser.federated; from {module} import {function} as run; run()"
        path = scripts / name
        path.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c '{code}' \"$@\"\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    environment["PATH"] = f"{scripts}{os.pathsep}{environment.get('PATH', '')}"
    environment.update(
        FLWR_HOME=str(folder / "home"),
        FLWR_TELEMETRY_ENABLED="0",
        FLWR_DISABLE_UPDATE_CHECK="1",
        FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION="1",
        CUDA_VISIBLE_DEVICES="",
    )
