"""A host that plays no audio through its plugin for long: the place goes to others, and comes back when it plays on."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from backline.service.server import start_server
from backline_client import Client
from tests.plugin.clap_events import parameter, transport
from tests.plugin.clap_host import Bundle, ClapPlugin
from tests.plugin.test_clap_parameters import BUDGET, DRY_WET
from tests.plugin.test_clap_server import BLOCK, PACK, PASSTHROUGH, RATE, WET, await_playing, status
from tests.support.wire import eventually

LIMIT, LEASE = 0.7, 0.5  # seconds


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        start_server(device="cpu", idle_seconds=LIMIT, lease_seconds=LEASE) as server,
        Client(server.address) as client,
    ):
        yield client


@pytest.fixture
def plugin(bundle: Bundle, client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClapPlugin]:
    """Plays through the server."""
    monkeypatch.setenv("BACKLINE_ADDRESS", client.address)
    with bundle.create() as plugin:
        plugin.flush([parameter(PACK, PASSTHROUGH), parameter(DRY_WET, WET), parameter(BUDGET, 0.5)])
        plugin.activate(RATE, BLOCK)
        await_playing(plugin)
        yield plugin


def test_a_session_that_idled_out_is_opened_again_with_the_next_audio_only(plugin: ClapPlugin, client: Client) -> None:
    assert len(client.sessions()) == 1
    assert eventually(lambda: not client.sessions()), "detached, and ended with its lease"
    opened = client.stats().sessions_total
    time.sleep(2.5 * LIMIT)  # in which an eager plugin opens sessions that nobody hears
    assert client.stats().sessions_total == opened
    assert status(plugin).startswith(("connecting", "idle"))
    await_playing(plugin)
    assert client.stats().sessions_total == opened + 1


def test_a_host_whose_transport_stands_keeps_its_session(plugin: ClapPlugin, client: Client) -> None:
    (session,) = client.sessions()
    plugin.process(np.zeros((2, BLOCK), np.float32), transport=transport(0.0, playing=False))
    time.sleep(2.5 * LIMIT)
    assert [entry.id for entry in client.sessions()] == [session.id]
