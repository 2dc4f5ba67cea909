"""The model card that every released model carries."""

from collections.abc import Mapping
from typing import Any

from avser.bundle.provenance import Provenance
from avser.evaluation.numbers import format_figure
from avser.evaluation.summary import MEANINGS

_LIMITS = """\
## Not for

Decisions about people. The output is an estimate of the emotion that a clip *expresses*, as actors
and labellers understood it, not of anybody's state of mind. Inferring emotion in workplaces and
education is regulated or banned in places (EU AI Act, Art. 5); medical, hiring, policing and
surveillance uses are outside what was measured here.

## Limits

{what} The classes are those of the corpus: a clip that fits none of them still gets one.
"""
_OF_VOICES = """\
Expect worse figures on languages and accents that are not in the training data, on children and old
people, and with noise, music and far microphones."""
_OF_ACTED = "Emotions of the training data are acted; expect worse figures on spontaneous speech."
_OF_FACES = """\
Faces in other light, turned away, masked, small, very young or very old are recognised worse, and
who is in the training data, by skin and culture, is unknown or narrow."""


def _figure(figure: object) -> str:
    if not isinstance(figure, Mapping) or figure.get("value") is None:
        return "not measured"
    return format_figure(figure)


def _group_table(figures: Mapping[str, Any]) -> list[str]:
    rows = []
    for sex, row in dict(figures.get("per_sex") or {}).items():
        figure = row.get("uar") if isinstance(row, Mapping) else None
        if isinstance(figure, Mapping) and figure.get("value") is not None:
            rows.append(f"| {sex} | {format_figure(figure['value'])} | {row.get('n', '')} |")
    return ["", "| speakers | UAR | clips |", "|---|---|---|", *rows] if rows else []


def _stress_table(figures: Mapping[str, Any]) -> list[str]:
    """UAR under each condition of degraded sound, where that was measured."""
    rows = [
        f"| {name} | {_figure(row.get('uar'))} |"
        for name, row in dict(figures.get("stress") or {}).items()
    ]
    head = [
        "",
        "Degraded recordings (clean: the same clips as they are):",
        "",
        "| condition | UAR |",
        "|---|---|",
    ]
    return [*head, *rows] if rows else []


def _people(provenance: Provenance) -> str:
    """Speakers, their sexes, languages and labels, as far as they are known."""
    count = len(provenance.speakers)
    sexes = ", ".join(f"{number} {sex}" for sex, number in provenance.sexes.items())
    speakers = f"{count} speakers" if count else "speakers unknown"
    languages = ", ".join(provenance.languages) or "unknown"
    parts = [
        f"{speakers}: {sexes}" if sexes else speakers,
        *([f"languages: {languages}"] if provenance.label_target != "face" else []),
        f"labels: {provenance.label_target}",
    ]
    return "; ".join(parts)


def standard_card(config: Mapping[str, Any], provenance: Provenance) -> str:
    """Return the text of a card.

    Args:
        config: of the bundle: name, emotions, parameters, and ``figures`` as `summarise` gives
            them, with a ``command`` and a ``source`` line where they come from a
            cross-validation of the same recipe.
        provenance: training data.
    """
    figures = config.get("figures") or {}
    lines = [
        f"# {config['name']}",
        "",
        f"Estimates the expressed emotion of a person speaking: {', '.join(config['emotions'])}. "
        f"{config['parameters']:,} parameters.",
        *(["", str(figures["about"])] if figures.get("about") else []),
        "",
        "## Intended use",
        "",
        "Research, and labelling or searching one's own media, where a person checks what matters.",
        "",
        "## Data and licence",
        "",
        f"Trained on {', '.join(provenance.corpora) or 'unstated data'} "
        f"({_people(provenance)}). The "
        f"weights carry their data's licence: {provenance.licence or 'unstated'}. "
        "Speakers are in `trained_on.yaml`, hashes of the recordings in `digests.txt`.",
        "",
        "## Figures",
        "",
    ]
    if figures and "uar" in figures:  # the card's first section may stand alone
        lines += [
            f"UAR {_figure(figures.get('uar'))}, accuracy {_figure(figures.get('accuracy'))}, "
            f"macro-F1 {_figure(figures.get('macro_f1'))}; n = {figures.get('n')}, "
            f"{figures.get('split')}, seeds {figures.get('seeds')}; intervals are 95 %, "
            f"bootstrap by {figures.get('interval_unit')}.",
        ]
        for stream, alone in dict(figures.get("streams") or {}).items():
            lines += [f"UAR of the {stream} alone {_figure(alone.get('uar'))}."]
        lines += [f"{mark}: {MEANINGS.get(mark, '')}" for mark in figures.get("marks") or ()]
        lines += [f"Note: {note}." for note in figures.get("notes") or ()]
        if figures.get("source"):
            lines += ["", str(figures["source"])]
        if figures.get("command"):
            lines += ["", "```", str(figures["command"]), "```"]
        lines += _group_table(figures)
        lines += _stress_table(figures)
    else:
        lines += ["None: it was trained without a test part."]
    heads = set(config.get("temperatures") or {})
    what = [text for head, text in (("audio", _OF_VOICES), ("video", _OF_FACES)) if head in heads]
    if "audio" in heads and "acted" in provenance.label_target.split("+"):
        what = [_OF_ACTED, *what]
    return "\n".join([*lines, "", _LIMITS.format(what="\n".join(what))])
