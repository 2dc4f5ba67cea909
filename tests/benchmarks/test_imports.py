"""The package picture and the trace, of which pages are made."""

from collections.abc import Callable
from types import CodeType

import pytest

from benchmarks import __main__ as command
from benchmarks import imports, trace
from benchmarks.trace import Counts

Graph = dict[str, frozenset[str]]


def reachable(graph: Graph, name: str) -> frozenset[str]:
    return graph[name].union(*(reachable(graph, other) for other in graph[name]))


def test_the_reduced_graph_reaches_what_the_whole_one_reaches() -> None:
    graph: Graph = {"a": frozenset(), "b": frozenset("a"), "c": frozenset("ab")}
    assert imports.needed(graph) == {"a": frozenset(), "b": frozenset("a"), "c": frozenset("b")}
    whole = imports.edges()
    few = imports.needed(whole)
    assert sum(map(len, few.values())) < sum(map(len, whole.values()))
    for name in whole:
        assert reachable(few, name) == reachable(whole, name)


def test_every_package_stands_above_what_it_imports_and_is_drawn() -> None:
    graph = imports.edges()
    level = {name: y for y, row in enumerate(imports.rows(graph)) for name in row}
    assert level[imports.LOOSE] == 0 and level["cli"] == max(level.values())
    assert all(level[other] < level[name] for name in graph for other in graph[name])
    picture = imports.svg()
    assert all(f">{name}</text>" in picture for name in graph)
    assert picture.count('class="edge"') == sum(map(len, imports.needed(graph).values()))


def test_edges_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["imports"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["basics", "imports", "–"]
    assert len(lines) == len(imports.edges()) + 1


def test_a_move_is_a_call_into_another_file_counted_once() -> None:
    here = test_a_move_is_a_call_into_another_file_counted_once.__code__
    own, other = reachable.__code__, trace.file_of.__code__
    counts = Counts()
    for _ in range(2):
        counts.enter(own, here)
        counts.enter(other, own)
    assert counts.to_dict() == {"functions": 2, "files": 2, "moves": 1}
    assert trace.is_ours(imports.svg.__code__) is False  # benchmarks are no part of the package


def test_bodies_of_modules_and_classes_are_no_functions() -> None:
    name = str(trace.HOME / "avser" / "module.py")
    module = compile("class A:\n    def f(self): ...", name, "exec")
    (body,) = (code for code in module.co_consts if isinstance(code, CodeType))
    (function,) = (code for code in body.co_consts if isinstance(code, CodeType))
    assert [trace.is_ours(code) for code in (module, body, function)] == [False, False, True]


@pytest.mark.long
@pytest.mark.parametrize("measure", [trace.training, trace.classification])
def test_trace_counts_what_runs(measure: Callable[[], dict[str, dict[str, int]]]) -> None:
    for row in measure().values():
        assert 10 < row["files"] * 2 <= row["functions"] and row["moves"] > row["files"] - 2
