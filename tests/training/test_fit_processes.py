"""Processes that run several trainings."""

import signal
from pathlib import Path

from avser.training.fit_processes import FitProcesses, _FitProcess


def pid(processes: FitProcesses) -> int:
    (process,) = processes._all
    assert isinstance(process, _FitProcess) and process._process is not None
    return process._process.pid


def test_one_process_serves_all_trainings_and_is_replaced_when_it_dies(tmp_path: Path) -> None:
    with FitProcesses(count=1, threads=1) as processes:
        problem = processes.fit(["-c", "configs/model/audio_crn.yaml"], tmp_path / "a")
        assert problem is not None and "did you mean 'configs/model/audio_crnn.yaml'" in problem
        first = pid(processes)
        problem = processes.fit(["--nonsense"], tmp_path / "b")
        assert problem is not None and "nonsense" in problem and "audio_crn" not in problem
        assert pid(processes) == first
        process = processes._all[0]._process
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        problem = processes.fit(["--nonsense"], tmp_path / "b")
        assert problem is not None and "nonsense" in problem
        last = processes._all[0]._process
        assert last is not None and last.pid != first
    assert last.returncode is not None  # nothing outlives the block
