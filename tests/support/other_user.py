"""Another user of this machine, who listens at a Unix socket and notes what comes. Only root can play one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

UID = 65_534
LISTEN = """
import os, socket, sys, threading
os.umask(0)
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen(8)
received, threads = [], []
def read(taken):
    while data := taken.recv(65_536):
        received.append(len(data))
def accept():
    while True:
        taken, _ = listening.accept()
        received.append(0)
        thread = threading.Thread(target=read, args=[taken], daemon=True)
        thread.start()  # before whoever joins may see it
        threads.append(thread)
threading.Thread(target=accept, daemon=True).start()
print("listening", flush=True)
sys.stdin.read()
for thread in threads:
    thread.join(2)
print(sum(received), flush=True)
"""


class Listener:
    """The other user's server; `received` is known once it has ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.received = -1  # bytes


@contextlib.contextmanager
def listener_of_another_user(name: str = "backline.sock", sticky: bool = True) -> Iterator[Listener]:
    """Their socket in a folder like /tmp: everyone may make files there, nobody takes away another's.

    Without `sticky` the folder is theirs.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can let another user listen")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if sticky:
            folder.chmod(0o1777)
        else:
            os.chown(folder, UID, UID)
        listener = Listener(folder / name)
        command = [sys.executable, "-c", LISTEN, str(listener.path), str(UID)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            try:
                yield listener
            finally:
                said, _ = process.communicate("", timeout=20)
                listener.received = int(said)
