"""Parts of the runtime without torch: detector, copied modules, refusals."""

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from avser.bundle.serialization import Bundle
from avser.errors import ConfigError
from avser.export.vendor import closure, imports, renamed
from avser.export.video_file import VideoGraph
from avser.media.faces.cascade import _AreaSums, _suppress
from avser.media.faces.onnx_mtcnn import OnnxMtcnnDetector
from avser.models.encoders.face_cnn import FaceCnnEncoder
from avser.models.heads import LinearHead
from avser.models.net import EmotionNet
from avser.testing.nets import tiny_net

#: What a folder for videos may import before anything is classified.
NEEDED = {"av", "cv2", "einops", "numpy", "scipy", "onnxruntime"}


def test_parts_of_a_picture_are_resized_by_areas_as_in_torch() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    for rows, columns in ((20, 31), (37, 53), (5, 90)):
        expected = torch.nn.functional.interpolate(planes, (rows, columns), mode="area")
        got, _ = _AreaSums(image).resized(rows, columns)
        np.testing.assert_allclose(got, (expected - 127.5) / 128, atol=1e-5)
    boxes = np.array([[1, 1, 30, 25], [-4, 3, 9.7, 60], [60, 2, 70, 9]], np.float32)
    inside, crops = _AreaSums(image).crops(boxes, 24)
    assert inside.tolist() == boxes[:2].tolist()  # the last lies beside the picture
    for crop, part in zip(crops, (planes[..., :25, :30], planes[..., 2:37, :9]), strict=True):
        expected = torch.nn.functional.interpolate(part, (24, 24), mode="area")[0]
        np.testing.assert_allclose(crop, (expected - 127.5) / 128, atol=1e-5)


def test_suppression_is_that_of_torchvision() -> None:
    random = np.random.default_rng(1)
    corners = random.random((200, 2)) * 60
    boxes = np.hstack([corners, corners + 5 + random.random((200, 2)) * 30]).astype(np.float32)
    scores = random.random(200).astype(np.float32)
    for most in (0.3, 0.5, 0.7):
        expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), most)
        assert _suppress(boxes, scores, most=most).tolist() == expected.tolist()


def test_a_detector_without_its_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pnet\.onnx is missing; export it anew\."):
        OnnxMtcnnDetector(tmp_path)


def test_a_net_without_faces_is_refused() -> None:
    made = Bundle(name="tiny", folder=Path(), net=tiny_net(features=3), config={})
    with pytest.raises(ConfigError, match="write its audio branch with --modality audio"):
        VideoGraph(made)


def at_load(source: str) -> Iterator[str]:
    """First parts of what a source imports when it is loaded."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            yield from (str(name).split(".")[0] for name in names)


def test_the_copied_modules_load_no_torch() -> None:
    for name in closure("avser.export.video_runtime"):
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        if name == "avser":
            continue
        loaded = set(at_load(Path(spec.origin).read_text("utf-8"))) - sys.stdlib_module_names
        assert loaded <= {*NEEDED, "avser"}, name


def test_imports_are_renamed_and_those_of_type_checkers_left_out() -> None:
    source = (
        "from avser.types import Clip\nif TYPE_CHECKING:\n    from avser.models import net\n"
        'text = "avser export writes `avser.media.clip`"\n'
    )
    assert list(imports(source)) == ["avser.types", "avser.types.Clip"]
    assert renamed(source) == source.replace("avser.", "avser_runtime.")


def test_lips_without_a_graph_are_refused() -> None:
    video = FaceCnnEncoder(channels=(8,), blocks=(1,), statistics=("mean", "lips"))
    net = EmotionNet(video=video, head=LinearHead(), emotions=("happy", "sad"))
    with pytest.raises(ConfigError, match="'lips', which has no graph; train without it"):
        VideoGraph(Bundle(name="tiny", folder=Path(), net=net, config={}))
