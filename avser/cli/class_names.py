"""Short names of classes on the command line, and the classes of each slot."""

import inspect
import pkgutil
from collections.abc import Sequence
from importlib import import_module

#: Where the classes of a slot are, and what they subclass.
SLOTS = {
    "audio": ("avser.models.encoders", "avser.models.encoders.base.AudioEncoder"),
    "video": ("avser.models.encoders", "avser.models.encoders.base.VideoEncoder"),
    "fusion": ("avser.models.fusion", "avser.models.fusion.base.StreamFusion"),
    "head": ("avser.models.heads", "avser.models.heads.Head"),
    "audio_head": ("avser.models.heads", "avser.models.heads.Head"),
    "video_head": ("avser.models.heads", "avser.models.heads.Head"),
    "baseline": ("avser.models.baselines", "avser.models.baselines.base.Baseline"),
    "frontend": ("avser.models.frontends", "avser.models.frontends.base.Frontend"),
    "augment": ("avser.training.augment", "avser.training.augment.Augment"),
    "split": ("avser.data.splits", "avser.data.splits.Split"),
    "corpus": ("avser.datamodules.corpora", "avser.types.Corpus"),
    "data": ("avser.datamodules", "avser.training.data_module.LabelledDataModule"),
}


def expand_classes(words: Sequence[str]) -> list[str]:
    """Replace short names of classes by class paths: ``--data.split loso``, ``--model.head Lstm``.

    A short name is the class's own name, or its attribute ``name``, in any case.
    """
    expanded: list[str] = []
    flag = ""
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("--") and equals:  # --flag=value
            expanded.append(f"{name}={_class_path(name, value)}")
        else:
            expanded.append(_class_path(flag, word))
        flag = word
    return expanded


def _class_path(flag: str, value: str) -> str:
    """Class path that a flag's value is a short name of; other values are returned unchanged."""
    setting = flag.removesuffix(".class_path")
    if setting == "--trainer.logger":
        return _logger_path(value)
    slot = setting.lstrip("-").rpartition(".")[2]
    is_slot = flag.startswith(("--data", "--model.")) and slot in SLOTS
    if not is_slot or not value.isidentifier() or value in ("null", "None"):
        return value
    for kind in classes_of(slot):
        if value.lower() in (kind.__name__.lower(), str(getattr(kind, "name", "")).lower()):
            return f"{kind.__module__}.{kind.__qualname__}"
    return value


def _logger_path(value: str) -> str:
    """Class path of one of Lightning's loggers, by its name or its first word, in any case."""
    from pytorch_lightning import loggers

    names = {name.lower(): name for name in loggers.__all__ if name != "Logger"}
    name = names.get(value.lower()) or names.get(f"{value.lower()}logger")
    return f"pytorch_lightning.loggers.{name}" if name else value


def classes_of(slot: str) -> list[type]:
    """Classes that fit a slot, collected by walking its package."""
    place, base_path = SLOTS[slot]
    package = import_module(place)
    for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
        import_module(f"{place}.{module.name}")
    module_name, _, name = base_path.rpartition(".")
    return _concrete(getattr(import_module(module_name), name))


def short_name(kind: type) -> str:
    """The short name of a class that `expand_classes` takes."""
    name = kind.__dict__.get("name")
    return name if isinstance(name, str) and name else kind.__name__


def _concrete(base: type[object]) -> list[type]:
    """Classes of avser that can be built: the base, and what subclasses it."""
    classes = [] if inspect.isabstract(base) else [base]
    for child in base.__subclasses__():
        if child.__module__.startswith("avser."):
            classes += [kind for kind in _concrete(child) if kind not in classes]
    return classes
