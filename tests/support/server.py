"""Fixtures: one real server in this process for all tests of a folder, and a client of it."""

from collections.abc import Iterator

import pytest

from backline.service.server import start_server
from backline_client import Client


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    with start_server() as server:
        yield server.address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as connected:
        yield connected
