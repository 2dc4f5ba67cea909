"""Configuration files, parser, errors and warnings of commands that train or read a corpus."""

import argparse
import inspect
import logging
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from avser.errors import AvserError, ConfigError, unknown

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from pytorch_lightning import Trainer

    from avser.training.data_module import LabelledDataModule
    from avser.training.task import EmotionTask


# Message, and why it is of no use here. Other warnings are shown.
_IGNORED = (
    r"LightningCLI's args parameter is intended to run",  # our arguments are not sys.argv
    r".*LeafSpec.* is deprecated",  # of torch 2.13, and Lightning still uses it
    r"The number of training batches \(\d+\) is smaller than the logging interval",  # we log epochs
    r"Found \d+ module\(s\) in eval mode at the start of training",  # the averaged weights
    r"The '\w+' does not have many workers",  # samples come from a memory map
    r"Checkpoint directory .* exists and is not empty",  # of the run that goes on
    r"Experiment logs directory .* exists and is not empty",
    r"It is recommended to use `self\.log\(.*sync_dist=True",  # figures are joined before
    r"Grad strides do not match bucket view strides",  # of kernels 5 x 5 of one channel; harmless
)


def locate(name: str) -> str:
    """Path of a configuration: as given, or ``configs/...`` as it is installed with avser.

    Raises:
        ConfigError: there is none; the sentence gives the nearest names.
    """
    if Path(name).is_file():
        return name
    parts = Path(name).parts
    root = Path(str(files("avser.configs")))
    inside = root.joinpath(*(parts[1:] if parts[:1] == ("configs",) else parts))
    if inside.is_file():
        return str(inside)
    known = sorted(f"configs/{p.relative_to(root).as_posix()}" for p in root.rglob("*.yaml"))
    near = get_close_matches(name, known, n=4, cutoff=0.4)
    near += [k for k in known if Path(name).stem and Path(name).stem in k and k not in near][:4]
    meant = f"did you mean {' or '.join(map(repr, near[:4]))}?" if near else "it is no file."
    raise ConfigError(
        f"Bad configuration {name!r}: expected a file, or one of the {len(known)} in configs/; "
        f"{meant}"
    )


class Parser(argparse.ArgumentParser):
    """An argument parser whose flags stand beside those of the configuration.

    Args:
        command: name of the command.
        about: one line.
        corpus: add ``--corpus NAME``, which is ``-c configs/data/NAME.yaml``.
        figures: add ``--figures``, for commands that write a report.
        epilog: text below the flags.
    """

    def __init__(
        self,
        command: str,
        about: str,
        *,
        corpus: bool = True,
        figures: bool = False,
        epilog: str | None = None,
    ) -> None:
        super().__init__(
            prog=f"avser {command}",
            description=about,
            allow_abbrev=False,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument(
            "-c",
            "--config",
            action="append",
            default=[],
            metavar="FILE",
            help="configuration; several compose, later ones win",
        )
        self._has_corpus = corpus
        if corpus:
            self.add_argument(
                "--corpus",
                metavar="NAME",
                help="configs/data/NAME.yaml: a corpus by name, or folders, manifest for your own",
            )
        self.add_argument("--root", metavar="DIR", help="folder (or CSV) of the corpus")
        if figures:
            self.add_argument(
                "--figures",
                action="append",
                choices=("png", "pdf", "svg"),
                help="also write the report's figures at column width, in this format; may be "
                "repeated",
            )

    def split(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Parse our own flags; return them and the words for the configuration's parser."""
        own, rest = self.parse_known_args(list(words))
        named = own.corpus if self._has_corpus and own.corpus else None
        names = [*([_corpus_config(named)] if named else []), *own.config]
        configs = [w for name in names for w in ("-c", locate(name))]
        root = [f"--data.corpus.init_args.root={own.root}"] if own.root else []
        return own, [*configs, *expand_classes(rest), *root]


def _corpus_config(name: str) -> str:
    """Configuration of a corpus's name.

    Raises:
        ConfigError: there is none of that name.
    """
    root = Path(str(files("avser.configs"))) / "data"
    known = sorted(path.stem for path in root.glob("*.yaml"))
    key = name.strip().lower().replace("-", "_")
    if key not in known:
        raise ConfigError(unknown("corpus", name, known))
    return f"configs/data/{key}.yaml"


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore these warnings while a training is set up and runs."""
    import pytorch_lightning  # noqa: F401 (it sets its loggers' levels when it is imported)

    loggers = [logging.getLogger(n) for n in ("pytorch_lightning", "lightning_fabric")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in _IGNORED:
            warnings.filterwarnings("ignore", message=message)
        # jsonargparse's deprecations of what Lightning's command line still calls
        for caller in (r"pytorch_lightning\.cli", "jsonargparse"):
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=caller)
        for logger in loggers:
            logger.setLevel(logging.WARNING)  # seeds, devices and advertisements lie below it
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def prepare_data(data: "LabelledDataModule", *, strict: bool = True) -> None:
    """Decode what is not yet in the cache, with a progress bar, and print what was left out.

    Args:
        data: of `parse_data`, or of `parse`.
        strict: refuse more missing clips than the data module allows.

    Raises:
        CorpusError: no clip, or with ``strict`` too few, could be decoded.
        SplitError: with ``strict``, the split is impossible.
    """
    from pytorch_lightning.utilities import rank_zero_only

    from avser.cli.progress import counting

    with counting("decoding") as progress:
        data.progress = progress
        missing = data.missing  # decodes
    if strict:
        _ = data.parts  # what is wrong with it is raised once, before further processes start
    if getattr(rank_zero_only, "rank", 0):  # the first process of a distributed training prints
        return
    for note in [*data.corpus.notes, *([missing] if missing else [])]:
        print(f"avser: {note}", file=sys.stderr)


@dataclass(frozen=True)
class TrainingSetup:
    """Objects that configurations describe.

    Attributes:
        trainer, task, data: built, not yet run.
        text: the resolved configuration in YAML, every default written out.
        groups: objects of the further groups, by name.
    """

    trainer: "Trainer"
    task: "EmotionTask"
    data: "LabelledDataModule"
    text: str
    groups: Mapping[str, object]


def parse(
    words: Sequence[str],
    *,
    trainer_defaults: Mapping[str, object] | None = None,
    groups: Mapping[str, type] | None = None,
    logs: Path | None = None,
) -> TrainingSetup:
    """Read configurations and build trainer, task and data.

    Args:
        words: of the command line.
        trainer_defaults: settings of the trainer.
        groups: further groups of settings by name, each of its class's constructor.
        logs: folder in which a logger of the user writes, unless its settings name another.

    Raises:
        ConfigError: a setting is unknown or of the wrong type; in one sentence.
    """
    from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

    from avser.training.data_module import LabelledDataModule
    from avser.training.task import EmotionTask

    class ConfigurationCLI(LightningCLI):
        def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_lightning_class_args(self.trainer_class, "trainer")
            plain = {k: v for k, v in self.trainer_defaults.items() if k != "callbacks"}
            parser.set_defaults({f"trainer.{k}": v for k, v in plain.items()})
            parser.add_lightning_class_args(EmotionTask, "model")
            _add_data(parser)
            parser.link_arguments("data.classes", "model.emotions", apply_on="instantiate")
            for name, kind in (groups or {}).items():
                parser.add_class_arguments(kind, name)

    words = [*words, *(logger_folder(words, logs) if logs is not None else ())]
    with _one_sentence(words):
        cli = ConfigurationCLI(
            EmotionTask,
            LabelledDataModule,
            run=False,
            args=words,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults=dict(trainer_defaults or {}),
            parser_kwargs={"prog": "avser fit", "exit_on_error": False},
        )
    return TrainingSetup(
        trainer=cli.trainer,
        task=cli.model,
        data=cli.datamodule,
        # a null is a choice too (no trimming, no crop): without it the default would come back
        text=cli.parser.dump(cli.config, skip_link_targets=True, skip_unset=False),
        groups={name: cli.config_init[name] for name in groups or {}},
    )


def parse_data(words: Sequence[str]) -> "LabelledDataModule":
    """Read configurations and build the data alone; settings of model and trainer are passed over.

    Raises:
        ConfigError: see `parse`.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="avser", exit_on_error=False)
    parser.add_argument("-c", "--config", action="config", help="configuration")
    _add_data(parser)
    for name in ("model", "trainer", "federated"):
        parser.add_argument(f"--{name}", type=dict)  # neither checked nor built
    parser.add_argument("--seed_everything")
    with _one_sentence(words):
        data: LabelledDataModule = parser.instantiate(parser.parse_args(list(words))).data
    return data


def _add_data(parser: "ArgumentParser") -> None:
    """Accept ``data``: settings of `ClipDataModule`, or of the class in ``data.class_path``.

    With a default of `set_defaults` instead, the type would be a union with None, and errors in
    building it would lose their own class.
    """
    from avser.training.data_module import LabelledDataModule

    default = {"class_path": "avser.datamodules.clips.ClipDataModule"}
    parser.add_subclass_arguments(LabelledDataModule, "data", default=default)


@contextmanager
def _one_sentence(words: Sequence[str]) -> Iterator[None]:
    """Turn what jsonargparse and Lightning raise about the words into one error of ours."""
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    try:
        yield
    except ModuleNotFoundError as error:  # of a logger whose library is missing
        raise ConfigError(f"Bad configuration: {' '.join(str(error).split())}") from error
    except MisconfigurationException as error:  # of the trainer
        text = " ".join(str(error).replace("`", "").split()).rstrip(".")
        raise ConfigError(f"Bad configuration of the trainer: {text}.") from error
    except (argparse.ArgumentError, ValueError, TypeError) as error:
        _check_files(words)
        raise (_own(error) or ConfigError(_sentence(str(error)))) from error


def _check_files(words: Sequence[str]) -> None:
    """Refuse a configuration file that is no table of settings, by its name.

    Raises:
        ConfigError: the file is empty, no YAML, or holds something else.
    """
    import yaml

    for flag, name in pairwise(words):
        if flag not in ("-c", "--config"):
            continue
        try:
            settings = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
            fault = "" if isinstance(settings, dict) else "it holds no settings"
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            fault = "it is no YAML: " + " ".join(str(error).split())
        if fault:
            raise ConfigError(
                f"Bad configuration {name!r}: {fault}; expected lines such as 'model:' and, "
                "indented below it, 'lr: 1e-3'."
            )


def _own(error: BaseException | None) -> AvserError | None:
    """Find the error of ours that another library wrapped into its own."""
    while error is not None and not isinstance(error, AvserError):
        error = error.__cause__ or error.__context__
    return error


_REFUSED = re.compile(r"Option '([\w.]+)' is not accepted|does not accept option '([\w.]+)'")
_TYPE = re.compile(r"Expected a (<class '[^']*'>|typing\.\S.*?\])")
_PLAIN = {  # types, as jsonargparse writes them
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "text",
    "<class 'list'>": "a list such as [a, b]",
    "<class 'dict'>": "settings such as {a: b}",
    "<class 'NoneType'>": "null",
}


def _sentence(message: str) -> str:
    """Condense a message of jsonargparse to one sentence, with the word that was meant."""
    keys = list(dict.fromkeys(re.findall(r'Parser key "([\w.]+)"', message)))
    slot = keys[-1].rpartition(".")[2] if keys else ""
    named = re.findall(r"class_path '([\w.]+)'", message)  # the innermost comes last
    if "arguments are required" in message:
        return _required(is_data=keys == ["data"])
    if flag := re.search(r"unrecognized arguments: ([^\s=]+)", message):
        return _unrecognized(flag[1])
    if refused := _REFUSED.search(message):
        return _refused(refused[1] or refused[2], message, keys=keys, kind=named[-1:])
    place = f" at {'.'.join(keys)}" if keys else ""
    if word := re.search(r"Expected a dot import path string: (\S*)", message):
        return f"Bad configuration{place}: {_class_meant(slot, word[1])}"
    value = re.search(r"(?:Given|Got) value: (.*)", message)
    types = list(dict.fromkeys(_TYPE.findall(message)))
    wrong_class = any(word in message.lower() for word in ("no attribute", "import", "no module"))
    if types and value and not wrong_class and all(map(_plain_type, types)):
        legal = " or ".join(filter(None, map(_plain_type, types)))
        return f"Bad configuration{place}: {value[1]!r} is not legal; expected {legal}."
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    noise = ("Expected a <class 'NoneType'>", "Expected a path but", "Subtypes:", "Given value")
    kept = [x for x in lines if not x.startswith((*noise, "Errors:", "Does not validate"))]
    if len(kept) > 1:
        kept = [x for x in kept if "Does not validate" not in x and not x.endswith(":")] or kept
    reason = " ".join(kept[0].split()) if kept else "it does not parse"
    reason = re.sub(r'^Parser key "[\w.]+": *', "", reason).rstrip(".")
    hint = _candidates(slot, named[-1] if named else "") if wrong_class else "."
    return f"Bad configuration{place}: {reason[:400]}{hint}"


def _plain_type(text: str) -> str | None:
    """Words for a type, or None for one that users do not write."""
    if choices := re.fullmatch(r"typing\.Literal\[(.*)\]", text):
        return "one of " + ", ".join(word.strip(" '") for word in choices[1].split(","))
    return _PLAIN.get(text)


def _refused(option: str, message: str, *, keys: Sequence[str], kind: Sequence[str]) -> str:
    """Sentence for a setting that a group or a class does not have."""
    if outer := re.search(r"Group '([\w.]+)' does not accept", message):
        return _unrecognized(f"--{outer[1]}.{option}")
    if not kind:
        return _unrecognized(f"--{'.'.join([*keys, option])}")
    module_name, _, name = kind[0].rpartition(".")
    owner = getattr(import_module(module_name), name)
    known = list(inspect.signature(owner).parameters)
    group = f"--{'.'.join(keys)}"
    near = get_close_matches(option, known, n=1)
    legal = f"did you mean {group}.{near[0]}?" if near else f"expected one of {', '.join(known)}."
    return f"Bad flag {group}.{option}: {name} has no such setting; {legal}"


def _required(*, is_data: bool) -> str:
    """Sentence for a command without its data or model configuration."""
    if is_data:
        return (
            "Bad configuration: no data; name a corpus, --corpus NAME --root DIR (your own: "
            "--corpus folders or --corpus manifest), or give -c DATA.yaml."
        )
    return (
        "Bad configuration: no model; give one, such as -c configs/model/audio_crnn.yaml for sound "
        "or -c configs/model/av_jca.yaml for sound and video."
    )


def _unrecognized(flag: str) -> str:
    """Sentence for a flag that no setting has, with the nearest one."""
    from pytorch_lightning import Trainer

    from avser.training.task import EmotionTask

    owners: dict[str, list[type]] = {
        "model": [EmotionTask],
        "data": _classes_of("data"),
        "trainer": [Trainer],
    }
    known = sorted(
        {
            f"--{group}.{name}"
            for group, classes in owners.items()
            for kind in classes
            for name in inspect.signature(kind).parameters
        }
    )
    group = flag.lstrip("-").partition(".")[0]
    if "." in flag and group not in owners:  # a misspelt group
        close = get_close_matches(group, owners, n=1)
        flags = [flag.replace(group, near, 1) for near in close]
        near = [k for k in flags if k in known] or [f"--{name}" for name in close]
    else:
        near = get_close_matches(flag, known, n=2)
    meant = f"did you mean {' or '.join(near)}?" if near else "see --print_config."
    return f"Bad flag {flag}: there is no such setting; {meant}"


#: Where the classes of a slot are, and what they subclass.
_SLOTS = {
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
        inside = word.startswith("--") and "=" in word  # --flag=value
        name, value = word.split("=", 1) if inside else (flag, word)
        setting = name.removesuffix(".class_path")
        slot = setting.lstrip("-").rpartition(".")[2]
        path = value
        if setting == "--trainer.logger":
            path = _logger_path(value)
        elif not name.startswith(("--data", "--model.")) or slot not in _SLOTS:
            pass
        elif value.isidentifier() and value not in ("null", "None"):
            for kind in _classes_of(slot):
                names = {kind.__name__.lower(), str(getattr(kind, "name", "")).lower()}
                if value.lower() in names:
                    path = f"{kind.__module__}.{kind.__qualname__}"
                    break
        expanded.append(f"{name}={path}" if inside else path)
        flag = "" if "=" in word else word
    return expanded


def _logger_path(value: str) -> str:
    """Class path of one of Lightning's loggers, by its name or its first word, in any case."""
    from pytorch_lightning import loggers

    names = {name.lower(): name for name in loggers.__all__ if name != "Logger"}
    name = names.get(value.lower()) or names.get(f"{value.lower()}logger")
    return f"pytorch_lightning.loggers.{name}" if name else value


def logger_folder(words: Sequence[str], folder: Path) -> list[str]:
    """Words that let a logger of the user write below a run folder, unless they say where to."""
    path = ""
    for word, value in zip(words, [*words, ""][1:], strict=True):
        flag, equals, rest = word.partition("=")
        if flag in ("--trainer.logger", "--trainer.logger.class_path"):
            path = rest if equals else value
    if not path or any("logger" in w and "save_dir" in w for w in words):
        return []
    module, _, name = path.rpartition(".")
    kind = getattr(import_module(module), name, None) if module else None
    takes = kind is not None and "save_dir" in inspect.signature(kind).parameters
    return [f"--trainer.logger.init_args.save_dir={folder}"] if takes else []


def _classes_of(slot: str) -> list[type]:
    """Classes that fit a slot, collected by walking its package."""
    place, base_path = _SLOTS[slot]
    package = import_module(place)
    for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
        import_module(f"{place}.{module.name}")
    module_name, _, name = base_path.rpartition(".")
    return _concrete(getattr(import_module(module_name), name))


def _class_meant(slot: str, word: str) -> str:
    """Say that a short name is no class of a slot, and which is."""
    if slot == "logger":
        from pytorch_lightning import loggers

        known = [n.removesuffix("Logger").lower() for n in loggers.__all__ if n != "Logger"]
    elif slot in _SLOTS:
        known = sorted(_short_name(kind) for kind in _classes_of(slot))
    else:
        return f"{word!r} is no path of a class, such as avser.models.heads.AttentiveHead."
    near = get_close_matches(word.lower(), [name.lower() for name in known], n=1)
    names = [n for n in known if n.lower() in near or (word and n.lower().startswith(word.lower()))]
    meant = f"; did you mean {names[0]}?" if names else "."
    return f"there is no {slot} {word!r}; expected one of {', '.join(known)}{meant}"


def _short_name(kind: type) -> str:
    """The short name of a class that `expand_classes` takes."""
    name = kind.__dict__.get("name")
    return name if isinstance(name, str) and name else kind.__name__


def _candidates(slot: str, wrong: str) -> str:
    """Which classes fit a slot, and which was probably meant."""
    if slot not in _SLOTS:
        return "."
    known = sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in _classes_of(slot))
    close = get_close_matches(wrong, known, n=1)
    meant = f"; did you mean {close[0]}?" if close else "."
    return f"; expected one of {', '.join(known)}{meant}" if known else "."


def _concrete(base: type[object]) -> list[type]:
    classes = [] if inspect.isabstract(base) else [base]
    for child in base.__subclasses__():
        if child.__module__.startswith("avser."):
            classes += [kind for kind in _concrete(child) if kind not in classes]
    return classes
