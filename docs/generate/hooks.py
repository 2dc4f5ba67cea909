"""Pages that are made from the project itself when the site is built (mkdocs hooks).

The package picture from the imports, the model zoo from the cards, the API reference from the
packages, results and changelog from the files at the root. So none of them can fall behind.
"""

import io
import json
import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from avser.visualization.stress_plot import stress_figure  # noqa: E402
from benchmarks import imports  # noqa: E402

log = logging.getLogger("mkdocs.hooks.avser")

#: Public packages, in the order of their pages.
PACKAGES = (
    *("types", "emotions", "errors", "media", "models", "data", "datamodules", "training"),
    *("evaluation", "bundle", "inference", "visualization", "export", "distributed", "web"),
    *("federated", "testing"),
)
OUTSIDE = re.compile(
    r"""<(?:script|link|img|iframe|source|audio|video)\b[^>]*(?:src|href)=["']?(?:https?:)?//"""
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add a page for each public package to the navigation."""
    pages = [{name: f"reference/{name}.md"} for name in PACKAGES if _home(name) is not None]
    assert config.nav is not None
    config.nav.append({"API reference": ["reference/index.md", *pages]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of ``docs/``."""
    pages = {f"reference/{name}.md": _reference(name) for name in PACKAGES if _home(name)}
    pages["reference/index.md"] = _reference_index()
    pages["results/index.md"] = _from_root("RESULTS.md", "docs/results/", "")
    pages["changelog.md"] = _from_root("CHANGELOG.md", "docs/", "")
    pages["contributing.md"] = _from_root("CONTRIBUTING.md", "docs/", "")
    pages |= _notebooks()
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill in what pages have markers for."""
    for marker, make in MARKERS.items():
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    return markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse pages that load anything from another host."""
    for path in Path(config.site_dir).rglob("*.html"):
        for match in OUTSIDE.finditer(path.read_text(encoding="utf-8")):
            if 'rel="canonical"' not in match[0]:
                log.warning("%s loads from outside: %s", path.name, match[0])


# -- API reference -------------------------------------------------------------------------------


def _home(name: str) -> Path | None:
    """The folder, or the file, of a package."""
    for path in (ROOT / "avser" / name, ROOT / "avser" / f"{name}.py", ROOT / name):
        if path.exists():
            return path
    return None


def _modules(name: str) -> list[str]:
    """Dotted paths of the public modules of a package."""
    home = _home(name)
    assert home is not None
    if home.is_file():
        return [f"avser.{name}"]
    paths = [p for p in sorted(home.rglob("*.py")) if not p.stem.startswith("_")]
    return [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in paths]


def _reference(name: str) -> str:
    lines = [f"# avser.{name}", ""]
    for module in _modules(name):
        title = module if module.startswith("avser.") else f"avser.{module}"
        lines += [f"## {title.removeprefix(f'avser.{name}.')}", "", f"`{title}`", ""]
        lines += [f"::: {module}", ""]
    return "\n".join(lines)


def _reference_index() -> str:
    lines = ["# API reference", "", "| package | modules |", "|---|---|"]
    for name in PACKAGES:
        if _home(name) is not None:
            names = [m.rpartition(".")[2] for m in _modules(name)]
            lines.append(f"| [`avser.{name}`]({name}.md) | {', '.join(names)} |")
    return "\n".join([*lines, ""])


# -- pages of the root ---------------------------------------------------------------------------


def _from_root(name: str, folder: str, place: str) -> str:
    """A file of the root, its links as they are in ``docs/``."""
    return (ROOT / name).read_text(encoding="utf-8").replace(f"]({folder}", f"]({place}")


# -- notebooks -----------------------------------------------------------------------------------


def _notebooks() -> dict[str, str]:
    """A page for each notebook, and one that lists them."""
    pages = {}
    rows = [
        "# Notebooks",
        "",
        "They lie in `examples/notebooks/`. Commands of the shell begin with `!`.",
        "",
        "| notebook | content |",
        "|---|---|",
    ]
    for path in sorted((ROOT / "examples" / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = ["".join(cell["source"]) for cell in cells]
        marked = [_cell(cell["cell_type"], t) for cell, t in zip(cells, text, strict=True)]
        pages[f"notebooks/{path.stem}.md"] = "\n\n".join([*marked, ""])
        title, _, lead = text[0].partition("\n")
        summary = " ".join(lead.partition("Needs")[0].split())
        rows.append(f"| [{title.removeprefix('# ')}]({path.stem}.md) | {summary} |")
    return pages | {"notebooks/index.md": "\n".join([*rows, ""])}


def _cell(kind: str, text: str) -> str:
    return text if kind == "markdown" else f"```python\n{text}\n```"


# -- model zoo -----------------------------------------------------------------------------------


def _zoo() -> str:
    """One table of all released models, then each card."""
    lines = [
        "| model | streams | classes | parameters | UAR | licence of the weights |",
        "|---|---|---|---|---|---|",
    ]
    cards = []
    for path in sorted((ROOT / "checkpoints").glob("*/config.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        trained = yaml.safe_load((path.parent / "trained_on.yaml").read_text(encoding="utf-8"))
        name, uar = config["name"], (config.get("figures") or {}).get("uar")
        streams = " + ".join(s for s in ("audio", "video") if config["net"].get(s))
        figure = f".{round(uar['value'] * 1000):03d}" if uar else "–"
        anchor = name.replace(".", "").replace(" ", "-").lower()
        lines.append(
            f"| [`{name}`](#{anchor}) | {streams} | {len(config['emotions'])} | "
            f"{config['parameters']:,} | {figure} | {trained['licence']} |"
        )
        card = (path.parent / "README.md").read_text(encoding="utf-8")
        cards.append(re.sub(r"^(#+ )", r"#\1", card, flags=re.MULTILINE))
        if stress := (config.get("figures") or {}).get("stress"):
            cards.append(_stress_svg(name, stress))
    return "\n".join([*lines, "", *cards])


def _stress_svg(name: str, stress: Mapping[str, Any]) -> str:
    """UAR under each degradation, as the report draws it."""
    figure = stress_figure(stress, title=f"{name}: degraded recordings of the same clips")
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = text.getvalue()
    return f'<div class="stress">{svg[svg.index("<svg") :]}</div>\n'


# -- architecture --------------------------------------------------------------------------------


def _edges() -> str:
    graph = imports.edges()
    lines = ["| package | imports |", "|---|---|"]
    for row in imports.rows(graph):
        lines += [f"| `{name}` | {', '.join(sorted(graph[name])) or '–'} |" for name in row]
    return "\n".join(lines)


def _trace() -> str:
    """Figures of ``python -m benchmarks trace``, before and after the packages were made."""
    kept = json.loads((ROOT / "results" / "trace.json").read_text(encoding="utf-8"))
    lines = ["| way | functions | files | moves |", "|---|---|---|---|"]
    for way, after in kept["after"].items():
        before = kept["before"][way]
        cells = [f"{before[name]} → {after[name]}" for name in ("functions", "files", "moves")]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


MARKERS = {
    "<!-- packages -->": imports.svg,
    "<!-- imports -->": _edges,
    "<!-- trace -->": _trace,
    "<!-- zoo -->": _zoo,
}
