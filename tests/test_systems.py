"""The published systems as make knows them: every row names configurations that are there."""

import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDS_MAKE = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def dry(*words: str) -> str:
    """Commands that make would run, as if everything were installed."""
    old = [
        "-o",
        ".venv/.installed-systems",
        "-o",
        ".venv/bin/python",
        "-o",
        ".venv/.installed-core",
    ]
    # not as a part of the make that runs these tests: its flags and remarks are not ours
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "-n", *old, *words], cwd=ROOT, capture_output=True, text=True, env=own
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\\\n", " ")


@NEEDS_MAKE
@pytest.mark.parametrize(
    ("system", "rows"),
    [
        ("deepemonet", 20),
        ("moodmirror", 2),
        ("emonet", 3),
        ("private_federated_ser", 3),
        ("convoluting_feelings", 47),
    ],
)
def test_every_row_names_configurations_that_are_there(system: str, rows: int) -> None:
    commands = [c for c in dry(f"reproduce-{system}").splitlines() if " crossval " in c]
    assert len(commands) == rows
    for command in commands:
        configs = re.findall(r"-c (\S+)", command)
        assert len(configs) == 2 and all((ROOT / config).is_file() for config in configs), command
        name = re.findall(r"--name (\S+)", command)[0]
        assert name.startswith(system) and f"results/{name}.json" in command


@NEEDS_MAKE
def test_settings_of_make_reach_the_commands() -> None:
    assert "resnet34_imagenet" not in dry("reproduce-deepemonet", "PRETRAINED=false")
    given = dry("deepemonet_imagenet_random", "PRETRAINED=own.pt", "RUNS=/r", "RESULTS=/s")
    assert "pretrained=own.pt" in given and "--out /r/" in given and "--row /s/" in given
    other = dry("deepemonet_efficientnet_augmented_speakers", "EFFICIENTNET=e.safetensors")
    assert "pretrained=e.safetensors" in other and "/efficientnet_augmented.yaml" in other
    without = dry("reproduce-deepemonet", "EFFICIENTNET=false")
    assert "efficientnet_augmented" not in without and "efficientnet_scratch" in without
    short = dry("deepemonet_efficientnet_augmented_random", "SHORT=1")
    (resizing,) = re.findall(r"class_path: (\S+),", " ".join(short.split()))
    module, _, name = resizing.rpartition(".")
    assert hasattr(importlib.import_module(module), name)
    row = "deepemonet_resnet34_random"
    assert "max_epochs" in dry(row, "SHORT=1") and "max_epochs" not in dry(row)


@NEEDS_MAKE
def test_what_begins_with_a_net_of_chunks_is_of_its_split() -> None:
    for model, split in (("scores_lda", "random"), ("scores_gmm", "speakers")):
        first, second = dry(f"convoluting_feelings_{model}_{split}", "RUNS=/r").splitlines()
        assert f"--out /r/convoluting_feelings_r1_{split}" in first
        start = f"/r/convoluting_feelings_r1_{split}/seed{{seed}}/fold{{fold}}"
        assert start in second and f"/{model}.yaml" in second
    assert "random_chunks_all.yaml" in dry("convoluting_feelings_r1_random", "CF_DATA=_all")
    both = dry("convoluting_feelings_er2", "RUNS=/r")
    assert all(
        f"--model /r/convoluting_feelings_{net}_random/seed0/fold0" in both for net in ("r1", "r3")
    )
