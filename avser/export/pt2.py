"""The audio branch as a ``.pt2`` of torch.export."""

import json
from pathlib import Path
from typing import Any

import torch

from avser.bundle.serialization import Bundle
from avser.export.onnx_file import metadata
from avser.export.program import initial_values, one_step, whole_clips
from avser.files import atomic_write


def save_pt2(bundle: Bundle, path: str | Path, *, streaming: bool = False) -> Path:
    """Write the audio branch for ``torch.export.load``, which needs torch and nothing of avser.

    For whole clips it takes ``waveform [B, T, 8192]`` float32 and ``lengths [B]`` int64 and gives
    what `avser.export.onnx_file.AudioGraph` documents; for streams ``samples [B, 8192]``,
    ``lengths [B]`` and a tuple of the state, whose first values the metadata names. The metadata is
    the extra file ``avser.json``.

    Raises:
        ConfigError: the model has no audio branch, or can't stream though it is to.
    """
    branch = bundle.net.audio_branch()
    program = one_step(branch) if streaming else whole_clips(branch)
    _use_own_recurrences(program)
    own = metadata(bundle, kind="stream" if streaming else "clip", int8=False)
    if streaming:
        own["initial_state"] = json.dumps(initial_values(branch))
    with atomic_write(path, mode="wb") as file:
        torch.export.save(program, file, extra_files={"avser.json": json.dumps(own)})
    return Path(path)


def _use_own_recurrences(program: torch.export.ExportedProgram) -> None:
    """Replace the custom recurrence operators, which only avser can load, by torch's own.

    Theirs are unrolled when a network is traced; what is put in afterwards stays as it is.
    """
    ours: dict[Any, Any] = {
        torch.ops.avser.lstm.default: torch.ops.aten.lstm.input,
        torch.ops.avser.gru.default: torch.ops.aten.gru.input,
    }
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target not in ours:
            continue
        x, *state, weights, _ = node.args
        vectors = [list(state)] if len(state) == 2 else state  # an LSTM takes a list of both
        settings = (True, 1, 0.0, False, False, True)  # biases, layers, dropout, ..., batch first
        node.args = (x, *vectors, list(weights), *settings)
        node.target = ours[node.target]
    graph.lint()
    program.graph_module.recompile()
