"""Shipped configurations on another device than the processor.

The long tests walk all of them; here are those that cover the kinds of encoder, norm and head.
"""

from pathlib import Path

import pytest
import torch
from device_walk import walk
from other_device import OTHER, other_device

from avser.errors import ConfigError
from avser.models.devices import choose_device

NAMES = (
    "fusion/jca_paper",
    "model/audio_stream",  # running norm
    "model/audio_whisper",  # features prepared once, enrolment
    "model/face_cnn",  # augmented pictures
    "systems/convoluting_feelings/r7",  # mean image
    "systems/convoluting_feelings/scores_softmax",  # a baseline on another head's scores
    "systems/emonet/conv1d",
    "systems/private_federated_ser/dnn",  # cleaned clips in memory
)


@pytest.mark.parametrize("name", NAMES)
def test_config_trains_and_predicts_on_another_device(name: str, tmp_path: Path) -> None:
    walk(name, tmp_path)


def test_operation_on_tensors_of_two_devices_is_refused() -> None:
    with other_device():
        there = torch.ones(2, device=OTHER)
        assert there.device == OTHER and float(there.sum()) == 2
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(2)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert (there + torch.ones(())).cpu().tolist() == [2, 2]  # a number has no device


def test_device_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"Bad device 'gpu'.*use auto or cpu"):
        choose_device("gpu")
