"""What is sent to a Unix socket reaches a server of this user or of root; another user's hears not a byte."""

import asyncio
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from backline.service.server import start_server
from backline_client import AsyncClient, Client, ConnectionFailed
from backline_client.unix_socket import foreign_socket
from tests.support.other_user import UID, listener_of_another_user


@pytest.mark.parametrize("sticky", [True, False])
def test_another_users_socket_gets_no_byte(sticky: bool) -> None:
    with listener_of_another_user(sticky=sticky) as listener:
        address = f"unix:{listener.path}"

        async def call() -> None:
            async with AsyncClient(address, timeout=5.0) as client:
                await client.open("passthrough", 48_000, 1)

        with Client(address, timeout=5.0) as client:
            for attempt in (
                client.packs,
                lambda: client.open("passthrough", 48_000, 1),
                lambda: client.render("passthrough", np.zeros(100, np.float32), 48_000),
                lambda: asyncio.run(call()),
            ):
                with pytest.raises(ConnectionFailed, match=rf"nothing was sent.*another user \(uid {UID}\)"):
                    attempt()
    assert listener.received == 0


def test_a_socket_that_becomes_another_users_is_noticed_at_the_next_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with start_server(f"unix:{tmp_path}/socket", device="cpu") as server, Client(server.address) as client:
        assert client.packs()
        monkeypatch.setattr("backline_client.unix_socket._trusted", lambda found: False)
        with pytest.raises(ConnectionFailed, match="nothing was sent"):
            client.packs()


def test_a_socket_is_trusted_where_nobody_else_can_put_one(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(str(tmp_path / "socket"))
    assert foreign_socket(tmp_path / "socket") is None
    (tmp_path / "link").symlink_to("socket")
    assert foreign_socket(tmp_path / "link") is None
    assert foreign_socket(tmp_path / "nothing") is None
    tmp_path.chmod(0o777)
    assert "chmod o-w" in str(foreign_socket(tmp_path / "socket"))
    tmp_path.chmod(0o1777)
    assert foreign_socket(tmp_path / "socket") is None


def test_a_system_without_users_has_no_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "socket").touch()
    if os.geteuid() == 0:
        os.chown(tmp_path / "socket", UID, UID)
    monkeypatch.delattr("os.geteuid")
    assert foreign_socket(tmp_path / "socket") is None
