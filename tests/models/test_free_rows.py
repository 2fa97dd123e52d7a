"""Every family gives its rows out alike, and says what it holds while other threads open and close them."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from backline.engine.engine import default_config
from backline.models.errors import NoRowFree, PackError
from backline.models.rows import free_row
from backline.models.stream import Stream
from backline.packs.pack import read_manifest
from backline.packs.places import packaged_packs
from backline.packs.registry import PackRegistry

SHIPPED = ("passthrough", "default", "stems")


@pytest.fixture(scope="module")
def load() -> Callable[[str], Stream]:
    """A pack's model, built once."""
    return cache(PackRegistry().load)


def test_the_lowest_free_row_is_taken() -> None:
    assert free_row({0, 1, 3}, 8) == 2
    with pytest.raises(NoRowFree, match="all 2 rows are taken: close a session"):
        free_row({0, 1}, 2)
    assert issubclass(NoRowFree, RuntimeError)  # as streams of third parties raise it


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_without_a_free_row_says_so(load: Callable[[str], Stream], name: str) -> None:
    stream = load(name)
    config = default_config(stream.spec)
    rows = [stream.open(config) for _ in range(stream.capacity)]
    try:
        assert len(set(rows)) == stream.capacity
        with pytest.raises(NoRowFree):
            stream.open(config)
    finally:
        for row in rows:
            stream.close(row)


@pytest.mark.parametrize("name", SHIPPED)
def test_who_serves_says_how_many_sessions_a_pack_has_room_for(name: str) -> None:
    stream = PackRegistry(rows=2).load(name)
    config = default_config(stream.spec)
    assert stream.capacity == 2
    for _ in range(2):
        stream.open(config)
    with pytest.raises(NoRowFree, match="all 2 rows are taken"):
        stream.open(config)


@pytest.mark.parametrize("rows", [0, -1, 1025, 2.0, "3"])
def test_a_pack_that_says_nonsense_of_its_rows_is_refused(tmp_path: Path, rows: object) -> None:
    said = f'"{rows}"' if isinstance(rows, str) else rows
    text = (packaged_packs() / "passthrough" / "pack.toml").read_text()
    (tmp_path / "pack.toml").write_text(text.replace("format = 1", f"format = 1\nrows = {said}"))
    with pytest.raises(PackError, match="rows is"):
        read_manifest(tmp_path)


class Opening:
    """A row whose size is asked for just when another row is opened."""

    def __init__(self, row: object, during: Callable[[], object]) -> None:
        self._row, self._during = row, during

    def __getattr__(self, name: str) -> Any:
        self._during()
        return getattr(self._row, name)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_resident_is_counted_while_sessions_come_and_go(load: Callable[[str], Stream], name: str) -> None:
    stream: Any = load(name)
    config = default_config(stream.spec)
    rows = [stream.open(config) for _ in range(2)]
    inner: Stream = stream
    stream._rows[rows[0]] = Opening(
        stream._rows[rows[0]], lambda: rows.append(inner.open(config)) if len(rows) < 4 else 0
    )
    try:
        assert stream.resident_bytes() >= 0
        assert isinstance(config.chunk_seconds, Fraction)
    finally:
        for row in rows:
            stream.close(row)
