"""A name that a pack or a server gives is never a path, on no system."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backline.cli.console import UserError
from backline.cli.takes import PortFiles
from backline.models.names import name_problem, names_problem
from backline.models.stream import Parameter, Port, StreamSpec

HOSTILE = [
    "../../evil", "/abs", "a/b", "a\\b", "C:", "..", ".", ".hidden", "", " ", "a\0b", "a\n", "\x1b[2J", "a" * 300,
    "con", "NUL.wav", "com1", "a.", "a ", "-rf", "~", "a*b", "\N{RIGHT-TO-LEFT OVERRIDE}gnp", "\ud800",
    "\N{MUSICAL SYMBOL G CLEF}",
    "\u00e9" * 64 + "x", "\u97f3" * 60,
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_is_refused_by_spec_and_client(tmp_path: Path, name: str) -> None:
    assert "is no name" in name_problem(name)
    with pytest.raises(ValueError, match="is no name"):
        StreamSpec(None, None, None, ports=(Port(name, 1),))
    with pytest.raises(ValueError, match=r"parameter .* is no name"):
        StreamSpec(None, None, None, ports=(), parameters=(Parameter(name, 0, 0, 1),))
    (tmp_path / "out").mkdir()
    for output in ("out/", "take.wav"):
        with pytest.raises(UserError, match="the outputs cannot be written to files"):
            PortFiles.at(f"{tmp_path}/{output}").paths(["main", name], None)
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


@pytest.mark.parametrize(
    "names", [("a", "a"), ("Lead", "lead"), ("\u00e9", "e\u0301"), ("stra\u00dfe", "STRASSE"), ("\ufb01ne", "fine")]
)
def test_two_names_of_one_file_are_refused(names: tuple[str, str]) -> None:
    assert "are one name on some systems" in names_problem(names) or "is no name" in names_problem(names)


@pytest.mark.parametrize("name", ["main", "vocals", "Kick (close)", "gitarre_2", "caf\u00e9", "L+R", "top_k", "5.1"])
def test_the_names_of_the_trade_are_names(tmp_path: Path, name: str) -> None:
    assert name_problem(name) == ""
    assert PortFiles(tmp_path, is_folder=True).paths([name], None) == {name: tmp_path / f"{name}.wav"}


@given(st.text(st.characters(), max_size=80))
def test_what_is_a_name_stays_in_its_folder(name: str) -> None:
    if not name_problem(name):
        path = Path("/folder") / f"{name}.wav"
        assert path.parent == Path("/folder")
        assert path.name == f"{name}.wav"
        assert len(path.name.encode()) < 255


def test_one_output_needs_no_name(tmp_path: Path) -> None:
    """It is written where the user says."""
    assert PortFiles.at(f"{tmp_path}/take.wav").paths(["../evil"], None) == {"../evil": tmp_path / "take.wav"}
