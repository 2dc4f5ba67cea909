"""Errors of configurations, condensed to one sentence with the legal values."""

import argparse
import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from itertools import pairwise
from pathlib import Path

from avser.cli.class_names import SLOTS, classes_of, short_name
from avser.errors import AvserError, ConfigError


@contextmanager
def one_sentence(words: Sequence[str]) -> Iterator[None]:
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
        raise (_wrapped_error(error) or ConfigError(_sentence(str(error)))) from error


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


def _wrapped_error(error: BaseException | None) -> AvserError | None:
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
        return f"Bad configuration{place}: {_no_such_class(slot, word[1])}"
    value = re.search(r"(?:Given|Got) value: (.*)", message)
    types = [_plain_type(text) for text in dict.fromkeys(_TYPE.findall(message))]
    wrong_class = any(word in message.lower() for word in ("no attribute", "import", "no module"))
    if types and all(types) and value and not wrong_class:
        legal = " or ".join(filter(None, types))
        return f"Bad configuration{place}: {value[1]!r} is not legal; expected {legal}."
    hint = _candidates(slot, named[-1] if named else "") if wrong_class else "."
    return f"Bad configuration{place}: {_reason(message)}{hint}"


def _reason(message: str) -> str:
    """The line of a message of several lines that states the reason."""
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    noise = ("Expected a <class 'NoneType'>", "Expected a path but", "Subtypes:", "Given value")
    kept = [x for x in lines if not x.startswith((*noise, "Errors:", "Does not validate"))]
    if len(kept) > 1:
        kept = [x for x in kept if "Does not validate" not in x and not x.endswith(":")] or kept
    reason = " ".join(kept[0].split()) if kept else "it does not parse"
    return re.sub(r'^Parser key "[\w.]+": *', "", reason).rstrip(".")[:400]


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
        "data": classes_of("data"),
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


def _no_such_class(slot: str, word: str) -> str:
    """Clause for a short name that is no class of a slot, with the legal names."""
    if slot == "logger":
        from pytorch_lightning import loggers

        known = [n.removesuffix("Logger").lower() for n in loggers.__all__ if n != "Logger"]
    elif slot in SLOTS:
        known = sorted(short_name(kind) for kind in classes_of(slot))
    else:
        return f"{word!r} is no path of a class, such as avser.models.heads.AttentiveHead."
    near = get_close_matches(word.lower(), [name.lower() for name in known], n=1)
    names = [n for n in known if n.lower() in near or (word and n.lower().startswith(word.lower()))]
    meant = f"; did you mean {names[0]}?" if names else "."
    return f"there is no {slot} {word!r}; expected one of {', '.join(known)}{meant}"


def _candidates(slot: str, wrong: str) -> str:
    """Clause with the class paths that fit a slot, and the nearest one."""
    if slot not in SLOTS:
        return "."
    known = sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in classes_of(slot))
    close = get_close_matches(wrong, known, n=1)
    meant = f"; did you mean {close[0]}?" if close else "."
    return f"; expected one of {', '.join(known)}{meant}" if known else "."
