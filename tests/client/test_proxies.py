"""A proxy that the environment names is for other machines: loopback and Unix sockets are reached without it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backline.service.server import start_server
from backline_client.wire import channel_options, is_local

PROXY = "http://127.0.0.1:1"  # nobody listens there
VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY")
LOCAL = [
    "127.0.0.1:50505", "127.8.8.8:1", "localhost:50505", "[::1]:50505", "ipv4:127.0.0.1:1", "ipv6:[::1]:1",
    "dns:localhost:1", "dns:///localhost:1", "unix:/run/backline.sock", "unix:///run/backline.sock", "unix-abstract:x",
]  # fmt: skip
REMOTE = [
    "studio.example:50505",
    "10.0.0.7:50505",
    "[fe80::1]:1",
    "dns:///studio:1",
    "ipv4:192.168.1.2:1",
    "localhost.io:1",
]
# In a process of its own: gRPC reads the variables when it begins.
RENDER = """
import sys
import numpy as np
from backline_client import Client
with Client(sys.argv[1]) as client:
    print(client.render("passthrough", np.ones(1_000, np.float32), 48_000)["main"].sum())
"""


@pytest.mark.parametrize("kind", ["127.0.0.1", "localhost", "::1", "unix"])
def test_a_local_server_is_reached_whatever_proxy_is_named(tmp_path: Path, kind: str) -> None:
    if kind == "::1":
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    where = {"unix": f"unix:{tmp_path}/socket", "::1": "[::1]:0"}.get(kind, f"{kind}:0")
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("no_proxy")}
    environment |= dict.fromkeys(VARIABLES, PROXY)
    with start_server(where, device="cpu") as server:
        done = subprocess.run(
            [sys.executable, "-c", RENDER, server.address], env=environment, capture_output=True, text=True, timeout=60
        )
    assert (done.stdout.strip(), done.returncode) == ("1000.0", 0), done.stderr


@pytest.mark.parametrize("address", LOCAL)
def test_local_addresses_go_past_proxies(address: str) -> None:
    assert is_local(address)
    assert ("grpc.enable_http_proxy", 0) in channel_options(address)


@pytest.mark.parametrize("address", REMOTE)
def test_other_machines_may_need_one(address: str) -> None:
    assert not is_local(address)
    assert "grpc.enable_http_proxy" not in dict(channel_options(address))
