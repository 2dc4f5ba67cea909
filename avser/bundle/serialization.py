"""Writing and loading bundles: folders with settings, hashed safetensors and a model card.

No other module writes or reads a model. Nothing in a bundle is executed: its classes must be under
``avser.`` (or a prefix that the caller allows) and subclass the base class of their slot, and the
hash of the weights is verified on loading.
"""

import hashlib
import re
import shutil
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from avser.bundle.card import standard_card
from avser.bundle.hub import download, is_hub_name
from avser.bundle.provenance import Provenance as Provenance
from avser.bundle.provenance import check_name, read_config, read_provenance
from avser.bundle.swap import read_unchanged, replace_folder
from avser.errors import BundleError, unknown
from avser.models.baselines.base import Baseline
from avser.models.factory import build_net, first_line
from avser.models.net import EmotionNet
from avser.types import SAMPLE_RATE, STEP_SAMPLES

DEFAULT_MODEL = "audio_whisper.multi"  # of inputs without a picture
DEFAULT_AV_MODEL = "av.multi"
FORMAT = 1
_WEIGHTS = re.compile(r"model-[0-9a-f]{8}\.safetensors")
_MAX_HEADER = 1 << 20  # our headers are some kilobytes
_MAX_WEIGHTS = 4 << 30


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded model."""

    name: str
    folder: Path
    net: EmotionNet
    config: Mapping[str, Any]
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def card(self) -> str:
        """The model card's text; "" if it has none."""
        path = self.folder / "README.md"
        return path.read_text(encoding="utf-8") if path.is_file() else ""


# -- writing -------------------------------------------------------------------------------------


def save(
    net: EmotionNet,
    folder: str | Path,
    *,
    spec: Mapping[str, Any],
    name: str,
    provenance: Provenance,
    figures: Mapping[str, Any] | None = None,
    card: str | None = None,
    half: bool = False,
) -> Path:
    """Write a bundle; an existing one is replaced atomically.

    Args:
        net: the network.
        folder: of the bundle.
        spec: settings from which `build_net` constructs the same network.
        name: of the model, such as ``audio_whisper.multi``.
        provenance: training data.
        figures: results, for the config and the card.
        card: text of the card; None writes the standard one.
        half: store the weights in float16, half the size; they are float32 again when loaded.

    Raises:
        BundleError: the name is not legal, or the folder holds something else.
    """
    check_name(name)
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / "trained_on.yaml").is_file():
        raise BundleError(f"Bad folder {folder}: it holds no bundle to replace; choose another.")
    raw = _weights(net, half=half)
    digest = hashlib.sha256(raw).hexdigest()
    file = f"model-{digest[:8]}.safetensors"
    config = {
        "format": FORMAT,
        "name": name,
        "emotions": list(net.emotions),
        "sample_rate": SAMPLE_RATE,
        "step_samples": STEP_SAMPLES,
        "parameters": sum(p.numel() for p in net.parameters()),
        "net": {slot: _plain(value) for slot, value in spec.items() if value is not None},
        "temperatures": {h: float(net.temperature(h)) for h in net.outputs},
        "weights": {"file": file, "sha256": digest, "stored": "float16" if half else "float32"},
        "figures": _plain(figures or {}),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (new / file).write_bytes(raw)
        _read_weights(new, config)  # verify before replacing an older bundle
        (new / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        _write_provenance(new, provenance)
        (new / "README.md").write_text(card or standard_card(config, provenance))
        new.chmod(0o755)
        replace_folder(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def size_of(folder: Path) -> int:
    """Bytes of a bundle's weights on disk."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _write_provenance(folder: Path, provenance: Provenance) -> None:
    trained = {k: v for k, v in _plain(vars(provenance)).items() if k != "digests"}
    (folder / "trained_on.yaml").write_text(yaml.safe_dump(trained, sort_keys=False))
    # text instead of YAML, which takes seconds to read tens of thousands of lines
    (folder / "digests.txt").write_text("".join(f"{d}\n" for d in provenance.digests))


def _weights(net: EmotionNet, *, half: bool) -> bytes:
    """Safetensors of a net's weights; temperatures stand in the config."""
    state = {k: v for k, v in net.state_dict().items() if not k.startswith("temperature_")}
    stored = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    if half:
        stored = {k: v.half() if v.dtype == torch.float32 else v for k, v in stored.items()}
        wide = [k for k, v in stored.items() if not bool(v.isfinite().all())]
        if wide:
            raise BundleError(f"Bad weights: {wide[0]} is beyond float16's 65,504; leave out half.")
    return save_tensors(stored)


#: Keys of a summary that a bundle keeps for its card.
_FIGURES = (
    "uar accuracy macro_f1 ece n classes recall per_sex marks split corpus label_target "
    "split_hash seeds epochs interval_unit commit notes streams levels stress about source command"
).split()


def card_figures(summary: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the part of a summary that a card shows; {} for None."""
    return {key: summary[key] for key in _FIGURES if key in summary} if summary else {}


def _plain(value: object) -> Any:  # noqa: ANN401
    """Plain YAML types: tuples to lists, mappings and sequences copied."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Sequence):
        return [_plain(v) for v in value]
    return str(value)


# -- reading -------------------------------------------------------------------------------------


def released() -> dict[str, Path]:
    """Names and folders of the models that are installed with avser."""
    from importlib.resources import files

    root = Path(str(files("avser.checkpoints")))
    return {p.parent.name: p.parent for p in sorted(root.glob("*/config.yaml"))}


def default() -> str:
    """The model for inputs with a picture, or of the voice alone where that is not installed."""
    return DEFAULT_AV_MODEL if DEFAULT_AV_MODEL in released() else DEFAULT_MODEL


def find(model: str | Path | None = None) -> Path:
    """Return the folder of a bundle, given by released name, path of a bundle, or path of a run.

    ``hf://OWNER/NAME`` is downloaded; see `avser.bundle.hub`.

    Raises:
        BundleError: there is none.
    """
    name = DEFAULT_MODEL if model is None else str(model)
    if is_hub_name(name):
        return download(name)
    for folder in (Path(name), Path(name) / "bundle"):
        if (folder / "config.yaml").is_file() and (folder / "trained_on.yaml").is_file():
            return folder
    known = released()
    if name not in known:
        raise BundleError(unknown("model", name, known) + " A folder with a bundle is legal too.")
    return known[name]


def load(model: str | Path | None = None, *, allow: Sequence[str] = ()) -> Bundle:
    """Load a bundle, verified, in evaluation mode on the CPU.

    Args:
        model: released name or folder; None is the default model.
        allow: further import prefixes for its classes.

    Raises:
        BundleError: not found, damaged, or unsafe.
    """
    return read_unchanged(
        lambda: find(model), lambda folder: _load(folder, allow), mark="config.yaml"
    )


def _load(folder: Path, allow: Sequence[str]) -> Bundle:
    config = read_config(folder)
    if config.get("format") != FORMAT:
        raise BundleError(
            f"Bad bundle {folder}: format {config.get('format')!r}, this avser reads {FORMAT}; "
            "update avser or train again."
        )
    grid = (config.get("sample_rate"), config.get("step_samples"))
    if grid != (SAMPLE_RATE, STEP_SAMPLES):
        raise BundleError(
            f"Bad bundle {folder}: rate and step {grid} are not avser's; train again."
        )
    provenance = read_provenance(folder)
    try:
        net = build_net(config["net"], config["emotions"], allow=allow)
        _fill(net, folder, config)
    except BundleError:
        raise
    except Exception as error:  # settings of a damaged file fail anywhere in a constructor
        raise BundleError(
            f"Bad bundle {folder}: its settings give no network ({first_line(error)}); get it anew."
        ) from error
    return Bundle(
        name=config["name"],
        folder=folder,
        net=net.eval(),
        config=config,
        provenance=provenance,
    )


def _read_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    entry = config.get("weights")
    name = entry.get("file") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(name, str) or not _WEIGHTS.fullmatch(name):
        raise BundleError(f"Bad weights name {name!r}: expected model-<8 hex>.safetensors.")
    path = folder / name
    if not path.is_file() or (path.is_symlink() and folder.resolve() not in path.resolve().parents):
        raise BundleError(f"Bad bundle {folder}: {name} is missing; get it anew.")
    if path.stat().st_size > _MAX_WEIGHTS:
        raise BundleError(f"Bad weights {path}: over 4 GiB; this is no avser model.")
    with path.open("rb") as file:
        size = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))[0]
    if size > _MAX_HEADER:
        raise BundleError(f"Bad weights {path}: its header claims {size} bytes, 1 MiB is legal.")
    raw = path.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != entry.get("sha256") or digest[:8] != name[6:14]:
        raise BundleError(f"Bad weights {path}: the hash does not match; get the bundle anew.")
    try:
        return load_tensors(raw)
    except Exception as error:  # safetensors raises its own untyped error
        raise BundleError(f"Bad weights {path}: {error}; get the bundle anew.") from error


def _fill(net: EmotionNet, folder: Path, config: Mapping[str, Any]) -> None:
    state = _read_weights(folder, config)
    for path, module in net.named_modules():
        if isinstance(module, Baseline):  # some of its sizes depend on its training data
            own = {k.removeprefix(f"{path}."): v for k, v in state.items()}
            module.make_room({k: v for k, v in own.items() if "." not in k})
    expected = {k: v for k, v in net.state_dict().items() if not k.startswith("temperature_")}
    missing, extra = sorted(expected.keys() - state), sorted(state.keys() - expected)
    if missing or extra:
        raise BundleError(
            f"Bad weights in {folder}: {len(missing)} keys missing {missing[:1]}, {len(extra)} too "
            f"many {extra[:1]}; they belong to another model."
        )
    if config["weights"].get("stored") == "float16":
        # to the type in the network's state, in which frozen weights have half precision too
        state = {
            k: v.to(expected[k].dtype) if v.dtype == torch.float16 else v for k, v in state.items()
        }
    for key, tensor in state.items():
        if not bool(tensor.isfinite().all()):
            raise BundleError(f"Bad weights in {folder}: {key} is not finite; get it anew.")
        if tensor.shape != expected[key].shape or tensor.dtype != expected[key].dtype:
            raise BundleError(
                f"Bad weights in {folder}: {key} is {tuple(tensor.shape)} {tensor.dtype}, expected "
                f"{tuple(expected[key].shape)} {expected[key].dtype}; they belong to another model."
            )
    net.load_state_dict(state, strict=False)
    temperatures = config.get("temperatures")
    for head in net.outputs:
        value = temperatures.get(head) if isinstance(temperatures, Mapping) else None
        if not isinstance(value, (int, float)) or not 0.01 <= value <= 100:
            raise BundleError(f"Bad temperature {value!r} of {head}: legal is 0.01 to 100.")
        net.temperature(head).fill_(value)
