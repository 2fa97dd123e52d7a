"""What a host learns from the .clap before any audio: descriptor, factory, ports, extensions."""

import ctypes
import re
import subprocess
import sys
import time
from collections.abc import Callable
from ctypes import byref, c_void_p, cast
from pathlib import Path

import pytest

from backline import __version__
from tests.plugin import clap_abi as abi
from tests.plugin.clap_host import PLUGIN_ID, Bundle, ClapPlugin, Host

STANDARD_FEATURES = {b"audio-effect", b"multi-effects", b"stereo"}
OURS = ("clap.audio-ports", "clap.note-ports", "clap.params", "clap.state", "clap.latency", "clap.tail", "clap.render")


def test_descriptor_names_the_plugin_and_its_version(bundle: Bundle) -> None:
    descriptor = bundle.descriptor
    assert descriptor.version_of_clap.major == 1
    assert descriptor.id == PLUGIN_ID
    assert descriptor.name == b"Backline"
    assert descriptor.version.decode() == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", descriptor.version.decode())
    for optional in (descriptor.vendor, descriptor.url, descriptor.manual_url, descriptor.support_url):
        assert optional is not None
    assert descriptor.description


def test_features_are_standard_ones_without_repetition(bundle: Bundle) -> None:
    features: list[bytes] = []
    while (feature := bundle.descriptor.features[len(features)]) is not None:
        features.append(feature)
    assert len(features) == len(set(features))
    assert set(features) <= STANDARD_FEATURES
    assert b"audio-effect" in features, "one main category is required"


def test_factory_gives_one_plugin_and_nothing_for_other_indices(bundle: Bundle) -> None:
    factory = bundle.factory
    assert factory.get_plugin_count(byref(factory)) == 1
    for index in (1, 2, 1000, 0xFFFFFFFF):
        assert not factory.get_plugin_descriptor(byref(factory), index)


@pytest.mark.parametrize("identifier", [b"", b"dev.backline", b"dev.backline.backline2", None])
def test_factory_makes_nothing_of_an_unknown_id(bundle: Bundle, identifier: bytes | None) -> None:
    factory, host = bundle.factory, Host()
    assert not factory.create_plugin(byref(factory), byref(host.table), identifier)


def test_factory_makes_nothing_for_a_host_of_another_major_version(bundle: Bundle) -> None:
    factory, host = bundle.factory, Host()
    host.table.version_of_clap = abi.Version(0, 25, 0)
    assert not factory.create_plugin(byref(factory), byref(host.table), PLUGIN_ID)
    assert not factory.create_plugin(byref(factory), None, PLUGIN_ID)


def test_creating_calls_nothing_of_the_host(bundle: Bundle) -> None:
    host = Host()
    with bundle.create(host, initialise=False):
        assert host.calls == []


def test_other_factories_are_not_there(bundle: Bundle) -> None:
    for name in (b"", b"clap.preset-discovery-factory/2", b"clap.plugin-factory2", None):
        assert not bundle.entry.get_factory(name)


def test_entry_is_counted(bundle: Bundle) -> None:
    assert bundle.entry.init(b"")
    bundle.entry.deinit()
    assert bundle.entry.get_factory(abi.FACTORY_ID), "it is still entered once"


def test_an_instance_may_be_destroyed_without_init(bundle: Bundle) -> None:
    with bundle.create(initialise=False) as plugin:
        assert plugin.made.contents.desc.contents.id == PLUGIN_ID


def test_a_host_without_any_extension_is_served(bundle: Bundle) -> None:
    host = Host()
    host.table.get_extension = type(host.table.get_extension)(lambda *_: None)
    with bundle.create(host) as plugin:
        plugin.activate(48_000, 64)
        assert plugin.latency == 144_000  # the budget's 3 s
        plugin.deactivate()


def test_extensions_are_those_that_are_served(plugin: ClapPlugin) -> None:
    for name in OURS:
        assert plugin.call("get_extension", name.encode()), name
    for name in ("", "clap.gui", "clap.params2", "clap.", "x"):
        assert not plugin.call("get_extension", name.encode()), name
    assert not plugin.call("get_extension", None)


def test_audio_ports_are_main_sidechain_and_stems(plugin: ClapPlugin) -> None:
    counts = {is_input: plugin.audio_port_count(is_input) for is_input in (True, False)}
    assert counts == {True: 2, False: 6}
    for is_input, count in counts.items():
        ports = [plugin.audio_port(index, is_input) for index in range(count)]
        found = [port for port in ports if port is not None]
        assert len(found) == count
        assert len({port.id for port in found}) == count
        assert len({port.name for port in found}) == count
        for index, port in enumerate(found):
            assert port.name
            assert (port.channel_count, port.port_type) == (2, b"stereo")
            assert bool(port.flags & abi.PORT_IS_MAIN) == (index == 0)
            assert not port.flags & abi.PORT_SUPPORTS_64BITS
        for index in (count, count + 1, 0xFFFFFFFF):
            assert plugin.audio_port(index, is_input) is None


def test_only_the_main_ports_may_share_memory(plugin: ClapPlugin) -> None:
    main = {is_input: plugin.audio_port(0, is_input) for is_input in (True, False)}
    for is_input, port in main.items():
        other = main[not is_input]
        assert port is not None
        assert other is not None
        assert port.in_place_pair == other.id
    for is_input in (True, False):
        for index in range(1, plugin.audio_port_count(is_input)):
            port = plugin.audio_port(index, is_input)
            assert port is not None
            assert port.in_place_pair == abi.INVALID_ID


def test_one_note_port_takes_clap_and_midi(plugin: ClapPlugin) -> None:
    assert (plugin.note_port_count(True), plugin.note_port_count(False)) == (1, 0)
    port = plugin.note_port(0, True)
    assert port is not None
    assert port.name
    assert port.supported_dialects == abi.DIALECT_CLAP | abi.DIALECT_MIDI
    assert port.preferred_dialect in (abi.DIALECT_CLAP, abi.DIALECT_MIDI)
    assert plugin.note_port(1, True) is None
    assert plugin.note_port(0, False) is None


def test_nothing_is_exported_but_the_entry(clap_file: Path) -> None:
    listed = subprocess.run(["nm", "-D", "--defined-only", clap_file], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == ["clap_entry"]


def test_a_scan_starts_no_thread_and_needs_no_server(
    clap_file: Path, record_property: Callable[[str, object], None]
) -> None:
    """In a process of its own, as hosts scan; what it took, beside loading any library, is reported."""
    scan = (
        "import sys, threading, time, os\n"
        "from pathlib import Path\n"
        "from tests.plugin.clap_host import Bundle\n"
        "begin = time.perf_counter()\n"
        "with Bundle(Path(sys.argv[1])) as bundle, bundle.create() as plugin:\n"
        "    plugin.params(), plugin.latency, plugin.save()\n"
        "    print(time.perf_counter() - begin, len(os.listdir('/proc/self/task')))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", scan, str(clap_file)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    seconds, threads = result.stdout.split()
    begin = time.perf_counter()
    ctypes.CDLL("libutil.so.1")
    record_property("scan_seconds", float(seconds))
    record_property("any_library_seconds", time.perf_counter() - begin)
    assert int(threads) == numpy_threads()


def numpy_threads() -> int:
    """Threads of a process that has done what the scan does but for the plugin."""
    count = "import os, numpy; print(len(os.listdir('/proc/self/task')))"
    return int(subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True).stdout)


def test_instances_made_without_an_entry_are_refused(clap_file: Path) -> None:
    """In a process of its own: init() has not been called there."""
    check = (
        "import sys\nfrom pathlib import Path\nfrom tests.plugin import clap_abi as abi\n"
        "from tests.plugin.clap_host import Bundle\n"
        "print(Bundle(Path(sys.argv[1])).entry.get_factory(abi.FACTORY_ID))"
    )
    result = subprocess.run(
        [sys.executable, "-c", check, str(clap_file)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert result.stdout.strip() == "None"


def test_port_questions_without_room_are_answered_no(plugin: ClapPlugin) -> None:
    ports = cast(c_void_p(plugin.call("get_extension", b"clap.audio-ports")), ctypes.POINTER(abi.AudioPorts)).contents
    assert not ports.get(plugin.made, 0, True, None)
