"""Every family gives its rows out alike, and says what it holds while other threads open and close them."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from backline.engine.engine import default_config
from backline.models.errors import NoRowFree
from backline.models.rows import free_row
from backline.models.stream import Stream
from backline.packs.registry import PackRegistry

SHIPPED = ("passthrough", "default", "stems")


@pytest.fixture(scope="module")
def registry() -> PackRegistry:
    return PackRegistry()


def test_the_lowest_free_row_is_taken() -> None:
    assert free_row({0, 1, 3}, 8) == 2
    with pytest.raises(NoRowFree, match="all 2 rows are taken: close a session"):
        free_row({0, 1}, 2)
    assert issubclass(NoRowFree, RuntimeError)  # as streams of third parties raise it


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_without_a_free_row_says_so(registry: PackRegistry, name: str) -> None:
    stream = registry.load(name)
    config = default_config(stream.spec)
    rows = [stream.open(config) for _ in range(stream.capacity)]
    try:
        assert len(set(rows)) == stream.capacity
        with pytest.raises(NoRowFree):
            stream.open(config)
    finally:
        for row in rows:
            stream.close(row)


class Opening:
    """A row whose size is asked for just when another row is opened."""

    def __init__(self, row: object, during: Callable[[], object]) -> None:
        self._row, self._during = row, during

    def __getattr__(self, name: str) -> Any:
        self._during()
        return getattr(self._row, name)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_resident_is_counted_while_sessions_come_and_go(registry: PackRegistry, name: str) -> None:
    stream: Any = registry.load(name)
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
