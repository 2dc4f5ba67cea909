"""Names and places that a command is given: what can't be one is refused before the work."""

from pathlib import Path

import pytest

from avser.bundle.provenance import check_name
from avser.cli import main
from avser.errors import BundleError


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "a\\b", "..", ".a", "-a", "a\nb", "a" * 101, "a "]
)
def test_a_name_that_is_a_path_or_can_not_be_printed_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match=r"Bad model name .*: legal are 1 to 100 printable char"):
        check_name(name)


@pytest.mark.parametrize("name", ["av.multi", "my model 2", "größe", "a" * 100, "x_y-z"])
def test_other_names_are_kept(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--out", "run"],
        ["crossval", "--out", "run"],
        ["release", "x", "--out", "run"],
        ["join", "x", "y", "--out", "run"],
    ],
)
@pytest.mark.parametrize("name", ["a/b", "..", "x" * 200])
def test_commands_refuse_a_name_before_they_begin(
    words: list[str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--name", name]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"avser {words[0]}: Bad model name ") and line.endswith("--name.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["fit", "--out", "run", "--name", ""], "--name"),
        (["fit", "--out", ""], "--out"),
        (["fit", "--out="], "--out"),
        (["crossval", "--out", "run", "--row", ""], "--row"),
        (["classify", "a.wav", "--json", ""], "--json"),
        (["search", "--space", "", "--out", "run"], "--space"),
    ],
)
def test_an_empty_value_is_refused(
    words: list[str],
    flag: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert f"Bad {flag} '': its value is empty; give one" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, "{}", "no json", "[1]"])
def test_a_table_of_folds_that_is_none_is_refused_before_a_training(
    content: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    row = tmp_path / "rows.json"
    row.mkdir() if content is None else row.write_text(content)
    assert main(["crossval", "--out", "run", "--row", "rows.json"]) == 1
    assert "Bad --row 'rows.json': expected a file of rows that" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [row]
