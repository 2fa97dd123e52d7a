"""The list of packs: only those that there are, as many as the server has, and a project keeps its own."""

import shutil
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import backline
from backline.service.server import start_server
from tests.plugin import clap_abi as abi
from tests.plugin.clap_events import parameter, transport
from tests.plugin.clap_host import Bundle, ClapPlugin
from tests.plugin.native import build, run
from tests.plugin.test_clap_parameters import NAMES

PACK = NAMES.index("Pack")
SHIPPED = ["default", "passthrough", "stems", "mge"]
LAST = len(SHIPPED) - 1.0  # its number
BLOCK = np.zeros((2, 480), np.float32)
PATIENCE_SECONDS = 10.0


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder, which does not exist yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "some" / "state"))
    return tmp_path / "some" / "state"


@contextmanager
def serving(folder: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that has these packs as well, each a pass-through, and that plugins find."""
    source = Path(backline.__file__).parent / "packs" / "data" / "passthrough" / "pack.toml"
    for name in names:
        pack = folder / "packs" / name
        pack.mkdir(parents=True)
        (pack / "pack.toml").write_text(source.read_text().replace('name = "passthrough"', f'name = "{name}"'))
    with start_server(f"unix:{folder}/socket", packs=[folder / "packs"], device="cpu") as server:
        monkeypatch.setenv("BACKLINE_ADDRESS", server.address)
        yield


def packs(plugin: ClapPlugin) -> list[str | None]:
    """The list as a host shows it."""
    info = plugin.params()[PACK]
    return [plugin.text(PACK, number) for number in range(int(info.min_value), int(info.max_value) + 1)]


def await_call(plugin: ClapPlugin, call: str, playing: bool = False) -> bool:
    """Plays until the host is asked that, or for a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while plugin.host.count(call) == 0 and time.monotonic() < deadline:
        plugin.process(BLOCK, transport=transport(0.0, playing=playing))
        time.sleep(0.01)
    return plugin.host.count(call) > 0


def test_a_new_list_holds_what_ships(plugin: ClapPlugin) -> None:
    assert packs(plugin) == SHIPPED
    assert plugin.value_of_text(PACK, "4") is None
    plugin.flush([parameter(PACK, 40.0)])
    assert plugin.value(PACK) == LAST, "no number without a pack"


def test_the_list_grows_by_what_the_server_has_and_is_remembered(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [*SHIPPED, "Märchen", "mine"]
    with serving(tmp_path, ["mine", "Märchen"], monkeypatch), bundle.create() as plugin:
        plugin.activate(48_000, 480)
        assert await_call(plugin, "request_restart")
        assert packs(plugin) == SHIPPED, "a range stays as it is while the plugin is active"
        assert plugin.value_of_text(PACK, "mine") is None, "or a host would clamp it"
        plugin.deactivate()
        plugin.activate(48_000, 480)
        assert packs(plugin) == wanted
        assert plugin.host.rescans[0] & abi.RESCAN_ALL
        for _ in range(10):
            plugin.process(BLOCK)
        assert plugin.host.count("request_restart") == 1
        assert plugin.host.misuse == []
        with bundle.create() as new:
            assert packs(new) == wanted


def test_the_list_does_not_grow_while_the_song_plays(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, ["mine"], monkeypatch), bundle.create() as plugin:
        plugin.activate(48_000, 480)
        assert await_call(plugin, "request_callback", playing=True)  # for its status: the server is there
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            plugin.process(BLOCK, transport=transport(0.0))
            time.sleep(0.01)
        assert plugin.host.count("request_restart") == 0
        assert await_call(plugin, "request_restart", playing=False)


def test_a_pack_that_the_server_lost_stays_in_the_project_and_says_so(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_remembered: Path
) -> None:
    (nothing_remembered / "backline").mkdir(parents=True)
    (nothing_remembered / "backline" / "packs").write_text("old\n\n\x07bell\npassthrough\n")
    with bundle.create() as plugin:
        assert packs(plugin) == [*SHIPPED, "old"], "and nothing that is no name"
        plugin.flush([parameter(PACK, LAST + 1)])
        project = plugin.save()
    shutil.rmtree(nothing_remembered)
    with serving(tmp_path, ["mine"], monkeypatch), bundle.create() as plugin:
        assert plugin.load(project)
        assert plugin.value(PACK) == LAST + 1
        assert packs(plugin) == [*SHIPPED, "old"]
        plugin.activate(48_000, 480)
        assert await_call(plugin, "request_restart")
        plugin.deactivate()
        plugin.activate(48_000, 480)
        assert packs(plugin) == [*SHIPPED, "old (not on the server)", "mine"]
        assert plugin.value(PACK) == LAST + 1
        assert plugin.value_of_text(PACK, "Old") == plugin.value_of_text(PACK, "old (not on the server)") == LAST + 1


def test_a_longer_list_of_a_project_is_told(bundle: Bundle, nothing_remembered: Path) -> None:
    (nothing_remembered / "backline").mkdir(parents=True)
    (nothing_remembered / "backline" / "packs").write_text("a\nb\n")
    with bundle.create() as plugin:
        plugin.flush([parameter(PACK, LAST + 2)])
        project = plugin.save()
    shutil.rmtree(nothing_remembered)
    with bundle.create() as plugin:
        assert plugin.load(project)
        assert plugin.host.rescans[0] & abi.RESCAN_ALL
        assert (plugin.value(PACK), packs(plugin)) == (LAST + 2, [*SHIPPED, "a", "b"])
    with bundle.create() as plugin:
        plugin.activate(48_000, 480)
        assert plugin.load(project)
        assert plugin.host.count("request_restart") == 1
        plugin.deactivate()
        plugin.activate(48_000, 480)
        assert any(flags & abi.RESCAN_ALL for flags in plugin.host.rescans)
        assert plugin.host.misuse == []
        assert plugin.value(PACK) == LAST + 2


def of_an_older_version(state: bytes, chosen: int) -> bytes:
    """The state as versions wrote it whose list had 64 places: before Prompt, On jump, Timing and automation notes."""
    head, body = state[:8], bytearray(state[16:-48])
    at = body.index(struct.pack("<II", 17, PACK))  # how many parameters, and the first one's number
    struct.pack_into("<IId", body, at, 13, PACK, chosen)
    checksum = 2166136261
    for byte in body:
        checksum = (checksum ^ byte) * 16777619 & 0xFFFFFFFF
    return head + struct.pack("<II", 1, checksum) + bytes(body)


@pytest.mark.parametrize(("chosen", "kept"), [(1, 1.0), (2, 2.0), (17, 0.0)])
def test_an_older_project_keeps_its_pack(bundle: Bundle, plugin: ClapPlugin, chosen: int, kept: float) -> None:
    project = of_an_older_version(plugin.save(), chosen)
    with bundle.create() as other:
        assert other.load(project)
        assert other.value(PACK) == kept, "a number that named no pack is the first one's"
        assert packs(other) == SHIPPED


@pytest.mark.parametrize("check", ["packs", "packs_of_an_older_project"])
def test_vst3_keeps_what_automation_means(
    plugins: Path, vst3_binary: Path, plugin: ClapPlugin, tmp_path: Path, check: str
) -> None:
    """The host is in plugin_client/tests/vst3_host.cpp; it reads a project of an older version from a file."""
    (tmp_path / "older").write_bytes(of_an_older_version(plugin.save(), 1))
    host = build(plugins, "", "vst3_host") / "vst3_host"
    run(
        host,
        vst3_binary,
        check,
        environment={"BACKLINE_ADDRESS": f"unix:{tmp_path}/none", "BACKLINE_OLDER_PROJECT": str(tmp_path / "older")},
    )


def test_vst3_hosts_are_told_of_new_packs(
    plugins: Path, vst3_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = build(plugins, "", "vst3_host") / "vst3_host"
    with serving(tmp_path, ["mine"], monkeypatch):
        run(host, vst3_binary, "server_packs")
