"""Packages of avser and what each imports, read from the sources.

``python -m benchmarks imports`` prints the edges; ``docs/generate`` draws them into
``docs/architecture.md``; ``tests/test_architecture.py`` compares them with the order of packages.
"""

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOOSE = "basics"  # one box for the loose files of avser/
LOOSE_FILES = ("types", "emotions", "errors", "files", "stores", "extras")

BOX_W, BOX_H, GAP_X, GAP_Y, MARGIN = 118, 34, 26, 46, 12


def package_of(path: Path) -> str:
    """Package of a file: ``avser/<package>/...``, ``avser/<module>.py``, or ``datamodules``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "avser" else parts[0]


def sources() -> list[Path]:
    """Files of all packages, without ``avser/__init__.py``, which only names public classes."""
    files = [p for top in ("avser", "datamodules") for p in (ROOT / top).rglob("*.py")]
    return sorted(p for p in files if p != ROOT / "avser" / "__init__.py")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import of a file, at any depth; relative ones resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    if package[0] == "datamodules":
        package = ("avser", *package)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            home = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{home}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)


@cache
def edges() -> dict[str, frozenset[str]]:
    """Packages that each package imports; loose files are one, `LOOSE`."""
    graph: dict[str, set[str]] = {}
    for path in sources():
        own = _box(package_of(path))
        into = graph.setdefault(own, set())
        for _, name in imported(path):
            parts = name.split(".")
            if parts[0] == "avser" and len(parts) > 1 and parts[1] != "__version__":
                into.add(_box(parts[1]))
    graph.pop("__main__", None)
    return {name: frozenset(into & graph.keys() - {name}) for name, into in sorted(graph.items())}


def _box(name: str) -> str:
    return LOOSE if name in LOOSE_FILES else name


def needed(graph: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """The graph without the edges that follow from others (its transitive reduction)."""

    @cache
    def below(name: str) -> frozenset[str]:
        return graph[name].union(*(below(other) for other in graph[name]))

    return {
        name: frozenset(
            o for o in into if not any(o in below(between) for between in into if between != o)
        )
        for name, into in graph.items()
    }


def rows(graph: dict[str, frozenset[str]]) -> list[list[str]]:
    """Packages in rows: each stands above all that it imports. Lowest row first."""

    @cache
    def height(name: str) -> int:
        return 1 + max((height(other) for other in graph[name]), default=-1)

    table: list[list[str]] = [[] for _ in range(1 + max(map(height, graph)))]
    for name in sorted(graph):
        table[height(name)].append(name)
    return table


def paths(graph: dict[str, frozenset[str]], table: list[list[str]]) -> list[list[str]]:
    """Each arrow as the places that it passes, a row each.

    An arrow over several rows gets an empty place in each row between, so that it passes beside
    the boxes and not behind them. The places are added to ``table``, whose rows are then sorted
    so that few arrows cross.
    """
    level = {name: y for y, row in enumerate(table) for name in row}
    routes = []
    for name, into in sorted(needed(graph).items()):
        for other in sorted(into):
            between = [f"{name}>{other}@{y}" for y in range(level[name] - 1, level[other], -1)]
            for place in between:
                table[int(place.partition("@")[2])].append(place)
            routes.append([name, *between, other])
    links = [pair for route in routes for pair in pairwise(route)]
    for _ in range(12):  # up and down: each place under, or over, the middle of its neighbours
        for fixed, free in [*pairwise(table), *pairwise(table[::-1])]:
            near: dict[str, list[float]] = {place: [] for place in free}
            for one, two in [*links, *((b, a) for a, b in links)]:
                if one in near and two in fixed:
                    near[one].append((fixed.index(two) + 0.5) / len(fixed))
            own = {place: (free.index(place) + 0.5) / len(free) for place in free}
            free.sort(key=lambda p, n=near, o=own: sum(n[p]) / len(n[p]) if n[p] else o[p])
    return routes


def svg() -> str:
    """The packages as a picture: an arrow leads from a package to one that it imports."""
    graph = edges()
    table = rows(graph)
    routes = paths(graph, table)
    size = {place: GAP_X if ">" in place else BOX_W for row in table for place in row}
    spans = [sum(size[place] + GAP_X for place in row) - GAP_X for row in table]
    width, height = 2 * MARGIN + max(spans), 2 * MARGIN + len(table) * (BOX_H + GAP_Y) - GAP_Y
    spot = {}
    for y, row in enumerate(reversed(table)):
        x = (width - spans[len(table) - 1 - y]) / 2
        for place in row:
            spot[place] = (x + size[place] / 2, MARGIN + y * (BOX_H + GAP_Y))
            x += size[place] + GAP_X
    lines = [
        f'<svg class="packages" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        'xmlns="http://www.w3.org/2000/svg" aria-label="Packages and their imports">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>',
        *(_arrow([spot[place] for place in route]) for route in routes),
    ]
    for name in graph:
        x, y = spot[name]
        lines.append(
            f'<rect x="{x - BOX_W / 2:.0f}" y="{y:.0f}" width="{BOX_W}" height="{BOX_H}" rx="6"/>'
            f'<text x="{x:.0f}" y="{y + BOX_H / 2 + 5:.0f}">{name}</text>'
        )
    return "\n".join([*lines, "</svg>"])


def _arrow(spots: list[tuple[float, float]]) -> str:
    """A curve through the spots: from under the first box, past the empty places, to the last."""
    path = f"M{spots[0][0]:.0f} {spots[0][1] + BOX_H:.0f}"
    for (x1, y1), (x2, y2) in pairwise(spots):
        bend = GAP_Y / 2
        y1 += BOX_H
        path += f" C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"
        if (x2, y2) != spots[-1]:
            path += f" V{y2 + BOX_H:.0f}"
    return f'<path class="edge" marker-end="url(#tip)" d="{path}"/>'


def main(arguments: Sequence[str] = ()) -> int:
    """Print the edges, a package a line."""
    graph = edges()
    for row in rows(graph):
        for name in row:
            print(f"{name:<14} imports  {' '.join(sorted(graph[name])) or '–'}")
    print(f"{len(graph)} packages, {sum(map(len, graph.values()))} imports, no circle.")
    return 0
