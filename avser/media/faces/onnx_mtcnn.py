"""MTCNN without torch: its three networks as ONNX files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avser.errors import ConfigError
from avser.media.faces.cascade import (
    MIN_FACE,
    NETWORKS,
    THRESHOLDS,
    MtcnnCascade,
    mtcnn_settings,
)

Values = NDArray[np.float32]


class OnnxMtcnnDetector(MtcnnCascade):
    """The same detector as `MtcnnDetector`, for programs without torch.

    Args:
        folder: with the files that `avser.export.detector.save_detector` wrote.
        min_face: height of the smallest face to look for, as a share of the picture's height.
        thresholds: of the scores of its three networks, 0..1.
        threads: of the arithmetic.

    Raises:
        ConfigError: a file is missing or no ONNX file.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        min_face: float = MIN_FACE,
        thresholds: tuple[float, float, float] = THRESHOLDS,
        threads: int = 1,
    ) -> None:
        sessions = {name: _session(Path(folder) / f"{name}.onnx", threads) for name in NETWORKS}
        networks = {name: partial(_run, session) for name, session in sessions.items()}
        super().__init__(networks, min_face=min_face, thresholds=thresholds)
        self.settings = f"{mtcnn_settings(min_face, thresholds)}, ONNX"


def _run(session: Any, pictures: Values) -> tuple[Values, ...]:  # noqa: ANN401
    return tuple(session.run(None, {"x": np.ascontiguousarray(pictures)}))


def _session(path: Path, threads: int) -> Any:  # noqa: ANN401 (onnxruntime is an extra)
    if not path.is_file():
        raise ConfigError(
            f"Bad face detector '{path.parent}': {path.name} is missing; export it anew."
        )
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no base of their own
        raise ConfigError(f"Bad face detector '{path}': {error}; export it anew.") from error
