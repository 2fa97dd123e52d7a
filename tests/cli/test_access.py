"""Access keys on the command line: made, listed, revoked, and shown to a server by a file or the environment."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import soundfile

from backline.service.access import access_file, add_key
from backline.service.gate import Gate, Tls
from backline.service.server import start_server
from tests.cli.test_commands import Backline
from tests.support.certificates import Authority
from tests.support.wire import noise


def test_a_key_is_made_listed_and_revoked(backline: Backline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    made = backline("access", "add", "studio", "--sessions", "4", "--packs", "default")
    assert made.code == 0
    key = made.out.strip()
    assert key.startswith("backline_")
    assert key not in made.err
    assert access_file() == tmp_path / "backline" / "access.toml"
    listed = backline("access", "list").out
    assert all(fact in listed for fact in ("studio", "4", "default", "any"))
    assert key not in listed
    again = backline("access", "add", "studio")
    assert (again.code, "there is a key 'studio' already" in again.err) == (1, True)
    assert backline("access", "revoke", "studio").code == 0
    assert "revoked" in backline("access", "list").out
    gone = backline("access", "revoke", "studio")
    assert (gone.code, "no key 'studio' to revoke" in gone.err) == (1, True)


def test_commands_show_a_key_that_nobody_sees(
    backline: Backline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "studio")
    keys = tmp_path / "access.toml"
    key = add_key(keys, "singer")
    (tmp_path / "key").write_text(f"{key}\n")
    voice, band = tmp_path / "voice.wav", tmp_path / "band.wav"
    soundfile.write(voice, noise(1, 4_800).T, 48_000, subtype="FLOAT")
    with start_server(device="cpu", gate=Gate(Tls(*authority.sign("server")), keys)) as server:
        asked = ("render", voice, "-o", band, "--pack", "passthrough", "--server", server.address)
        with_ca = (*asked, "--ca", authority.certificate)
        without = backline(*with_ca)
        assert (without.code, "asks for an access key" in without.err) == (1, True)
        assert backline(*with_ca, "--key-file", tmp_path / "key").code == 0
        monkeypatch.setenv("BACKLINE_KEY", key)
        monkeypatch.setenv("BACKLINE_CA", str(authority.certificate))
        assert backline(*asked).code == 0
    assert (soundfile.read(voice)[0] == soundfile.read(band)[0]).all()
    assert not [
        line for process in psutil.process_iter(["cmdline"]) for line in process.info["cmdline"] or () if key in line
    ]


def test_a_key_needs_a_server_and_tls_needs_both_files(backline: Backline, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    said = backline("render", "in.wav", "-o", "out.wav", "--key-file", tmp_path / "key")
    assert (said.code, "--server" in said.err) == (2, True)
    said = backline("serve", "--tls-cert", tmp_path / "key")
    assert (said.code, "--tls-key" in said.err) == (2, True)


def test_serve_refuses_other_machines_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "backline.cli.main", "serve", "--address", "0.0.0.0:0", "--socket", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot listen at 0.0.0.0:0: other machines may reach it.")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["--osc", "--http", "--metrics"])
def test_a_door_that_asks_for_no_key_is_not_opened_to_other_machines(backline: Backline, option: str) -> None:
    said = backline("serve", "--address", "127.0.0.1:0", "--socket", "none", option, "0.0.0.0:0")
    assert said.code == 1
    assert f"error: {option} 0.0.0.0:0: other machines may reach it. It asks for no key" in said.err
    assert "--trust-network" in said.err
