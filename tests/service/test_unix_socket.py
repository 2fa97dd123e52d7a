"""The server's socket is its user's alone from the first moment; nobody else's is served over or taken away."""

import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from backline.service import server
from backline.service.server import start_server
from backline.service.unix_socket import claim, others_shut_out, user_socket, user_sockets
from tests.support.other_user import UID, listener_of_another_user

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder whose name is short: a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="bl-") as folder:
        yield Path(folder)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home and nothing else; /run/user/UID is not there."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for variable in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    if Path(f"/run/user/{os.geteuid()}").exists():
        pytest.skip("this machine has /run/user/UID")
    return tmp_path / "home"


def private(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def test_the_socket_is_where_only_its_user_may_enter(
    monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = private(tmp_path / "runtime")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert user_socket() == f"unix:{runtime}/backline.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert user_socket() == f"unix:{home}/.local/state/backline/backline.sock"
    assert stat.S_IMODE((home / ".local/state/backline").stat().st_mode) == 0o700
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert user_socket() == f"unix:{tmp_path}/state/backline/backline.sock"
    assert not caplog.text


def test_a_folder_of_ours_that_is_open_to_others_is_closed(home: Path) -> None:
    folder = home / ".local/state/backline"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert user_socket() == f"unix:{folder}/backline.sock"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("fault", ["open to others", "no folder", "another user", "too long", "not there", "relative"])
def test_a_runtime_folder_that_will_not_do_is_passed_over_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    runtime = tmp_path / ("r" * 120 if fault == "too long" else "runtime")
    if fault == "no folder":
        runtime.symlink_to(private(tmp_path / "elsewhere"))
    elif fault != "not there":
        private(runtime)
    if fault == "open to others":
        runtime.chmod(0o750)
    if fault == "another user":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(runtime, UID, UID)
    if fault == "relative":
        monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime.name if fault == "relative" else str(runtime))
    assert user_socket() == f"unix:{home}/.local/state/backline/backline.sock"
    assert (fault in caplog.text) == (fault not in ("too long", "not there", "relative")), caplog.text


def test_a_home_that_is_not_ours_gets_no_folder(
    monkeypatch: pytest.MonkeyPatch, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    assert user_socket() is None
    assert "--socket" in caplog.text
    assert not list(home.iterdir())


def test_the_places_are_named_alike_wherever_they_are_described(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/runtime")
    places = [
        path.replace("/runtime", "$XDG_RUNTIME_DIR").replace(str(home), "~").replace(f"/{os.geteuid()}/", "/UID/")
        for path in user_sockets()
    ]
    assert len(places) == 3
    command = [sys.executable, "-m", "backline.cli.main", "serve", "--help"]
    environment = {**os.environ, "COLUMNS": "400", "NO_COLOR": "1"}
    helped = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    for text in (helped, README.read_text()):
        assert "/tmp/backline" not in text
        descriptions = re.findall(r"\$XDG_RUNTIME_DIR/backline\.sock(?s:.{0,200})", text)
        assert descriptions
        for described in descriptions:
            where = [described.find(place) for place in places]
            assert min(where) == 0, described
            assert where == sorted(where)


# ---- making it -------------------------------------------------------------------------------------------------------


class Binding:
    """A gRPC server as far as it binds, which notes how open the socket is before anyone could close it."""

    def __init__(self) -> None:
        self.modes: list[int] = []

    def add_insecure_port(self, address: str) -> int:
        path = address.removeprefix("unix:")
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path)
            self.modes.append(stat.S_IMODE(os.stat(path).st_mode))
        return 1


def test_no_one_else_could_ever_use_the_socket(tmp_path: Path) -> None:
    before = os.umask(0)  # the worst that a user may have
    try:
        binding: Any = Binding()
        server._listen(binding, f"unix:{tmp_path}/socket")
        assert binding.modes[0] & 0o077 == 0
        assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o600
        assert os.umask(0) == 0, "the umask is the user's again"
    finally:
        os.umask(before)


def test_grpc_binds_while_others_are_shut_out(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        bound = grpc.server(None)
        with others_shut_out():
            bound.add_insecure_port(f"unix:{tmp_path}/socket")
        assert (tmp_path / "socket").stat().st_mode & 0o077 == 0
    finally:
        os.umask(before)


@pytest.mark.parametrize("sticky", [True, False])
def test_another_users_socket_is_neither_served_over_nor_taken_away(sticky: bool) -> None:
    with listener_of_another_user(sticky=sticky) as listener:
        inode = listener.path.stat().st_ino
        whose = rf"(belongs to another user|socket of another user) \(uid {UID}\)"
        with pytest.raises(OSError, match=rf"cannot listen at .*{whose}"), start_server(f"unix:{listener.path}"):
            pass
        assert listener.path.stat().st_ino == inode
    assert listener.received == 0


def test_what_another_user_has_left_behind_is_left_alone(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a socket away")
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    os.chown(path, UID, UID)
    with pytest.raises(OSError, match=rf"a socket of another user \(uid {UID}\) lies there"):
        claim(path)
    assert path.exists()


def test_a_folder_in_which_everyone_may_replace_the_socket_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(OSError, match="chmod o-w"):
        claim(tmp_path / "open" / "socket")
    (tmp_path / "open").chmod(0o1777)
    claim(tmp_path / "open" / "socket")


def test_a_server_that_takes_nobody_on_is_noticed_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(path))
        stuck.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(str(path))  # its queue is full now
        with pytest.raises(OSError, match="another server"):
            claim(path)
        for client in waiting:
            client.close()
    claim(path)
    assert not path.exists()


def test_a_path_too_long_for_a_socket_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="at most 107 bytes: use a shorter one"):
        claim(tmp_path / ("x" * 120))
