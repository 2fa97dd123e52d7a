"""The CLAP plugin through a real server. The first stem carries the pack's output alone: what it holds came back."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from backline.service.server import start_server
from tests.plugin import clap_abi as abi
from tests.plugin.clap_events import Event, midi, note, parameter, transport
from tests.plugin.clap_host import Audio, Bundle, ClapPlugin
from tests.plugin.test_clap_parameters import BUDGET, DRY_WET, NAMES, STATUS
from tests.plugin.test_clap_processing import delayed, noise
from tests.support.other_user import UID, listener_of_another_user

PACK, PASSTHROUGH, WET = 0, 1.0, 1.0
RATE, BLOCK = 48_000, 512
PATIENCE_SECONDS = 20.0
Make = Callable[[], ClapPlugin]


@pytest.fixture
def make(bundle: Bundle, address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes instances that play the pass-through pack on the tests' server, wet only, half a second late."""
    monkeypatch.setenv("BACKLINE_ADDRESS", address)
    made: list[ClapPlugin] = []

    def make_one() -> ClapPlugin:
        plugin = bundle.create()
        plugin.flush([parameter(PACK, PASSTHROUGH), parameter(DRY_WET, WET), parameter(BUDGET, 0.5)])
        made.append(plugin)
        return plugin

    yield make_one
    for plugin in made:
        if plugin.active:
            plugin.deactivate()
        plugin.call("destroy")


def status(plugin: ClapPlugin) -> str:
    """As the user reads it."""
    value = plugin.value(STATUS)
    assert value is not None
    return plugin.text(STATUS, value) or ""


def play_in_time(plugin: ClapPlugin, audio: Audio) -> tuple[Audio, Audio]:
    """Main output and first stem of `audio`, as a sound card would play it."""
    pieces: list[list[Audio]] = []
    begin = time.monotonic()
    for start in range(0, audio.shape[1], BLOCK):
        pieces.append(plugin.process(audio[:, start : start + BLOCK]))
        time.sleep(max(0.0, begin + (start + BLOCK) / RATE - time.monotonic()))
    main, stem = (np.concatenate([piece[port] for piece in pieces], axis=1) for port in (0, 1))
    return main, stem


def await_playing(plugin: ClapPlugin) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not status(plugin).startswith("playing"):
        assert time.monotonic() < deadline, status(plugin)
        play_in_time(plugin, np.zeros((2, 4 * BLOCK), np.float32))


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 192_000])
def test_a_bounce_through_the_pass_through_pack_is_the_input_at_the_reported_latency(make: Make, rate: int) -> None:
    plugin = make()
    assert plugin.set_render_mode(abi.RENDER_OFFLINE)
    plugin.activate(rate, 2048)
    audio = noise(plugin.latency + rate)
    mains, stems = [], []
    start, sizes = 0, np.random.default_rng(rate)
    while start < audio.shape[1]:
        size = int(sizes.integers(1, 4096))
        outputs = plugin.process(audio[:, start : start + size])
        mains.append(outputs[0])
        stems.append(outputs[1])
        start += size
    np.testing.assert_array_equal(np.concatenate(stems, axis=1), delayed(audio, plugin.latency))
    np.testing.assert_array_equal(np.concatenate(mains, axis=1), delayed(audio, plugin.latency))


@pytest.mark.paced
def test_live_the_pass_through_pack_is_the_input_at_the_reported_latency(make: Make) -> None:
    plugin = make()
    plugin.activate(RATE, BLOCK)
    await_playing(plugin)
    audio = noise(2 * RATE)
    main, stem = play_in_time(plugin, audio)
    np.testing.assert_array_equal(main, delayed(audio, plugin.latency))
    np.testing.assert_array_equal(stem, delayed(audio, plugin.latency))


def test_two_instances_play_apart_at_once(make: Make) -> None:
    one, other = make(), make()
    songs = [noise(RATE, seed) for seed in (1, 2)]
    for plugin in (one, other):
        plugin.set_render_mode(abi.RENDER_OFFLINE)
        plugin.activate(RATE, BLOCK)
    pieces: list[list[Audio]] = [[], []]
    for start in range(0, RATE, BLOCK):
        for plugin, song, heard in zip((one, other), songs, pieces, strict=True):
            heard.append(plugin.process(song[:, start : start + BLOCK])[1])
    for song, heard in zip(songs, pieces, strict=True):
        np.testing.assert_array_equal(np.concatenate(heard, axis=1), delayed(song, one.latency))


def test_notes_midi_and_transport_reach_the_server_without_disturbing_the_audio(make: Make) -> None:
    plugin = make()
    plugin.set_render_mode(abi.RENDER_OFFLINE)
    plugin.activate(RATE, BLOCK)
    audio, stem = noise(RATE), []
    for number, start in enumerate(range(0, RATE, BLOCK)):
        events: list[Event] = [
            note(abi.NOTE_ON, 60 + number % 12, time=3),
            midi(b"\xb0\x01\x40", time=10),
            midi(b"\xc0\x05\x00", time=10),
            midi(b"\xf8\x00\x00", time=11),
            note(abi.NOTE_OFF, 60 + number % 12, time=100),
            note(abi.NOTE_CHOKE, -1, channel=-1, time=101),
            transport(number % 7, tempo=93.0, time=200),
        ]
        beat = transport(start / RATE * 2.0)
        stem.append(plugin.process(audio[:, start : start + BLOCK], events=events, transport=beat)[1])
    assert status(plugin).startswith("playing"), status(plugin)
    np.testing.assert_array_equal(np.concatenate(stem, axis=1), delayed(audio, plugin.latency))


def test_the_user_reads_the_status_and_what_to_do(make: Make) -> None:
    plugin = make()
    assert NAMES[STATUS] == "Status"
    assert status(plugin).startswith("idle")
    plugin.activate(RATE, BLOCK)
    await_playing(plugin)
    plugin.serve_callbacks()
    assert plugin.host.count("params.rescan") >= 1, "the host has been told to read it again"
    assert "passthrough" in status(plugin)
    plugin.deactivate()
    assert status(plugin).startswith("idle")


def test_a_budget_that_is_too_small_is_named(make: Make) -> None:
    plugin = make()
    plugin.flush([parameter(BUDGET, 0.001)])
    plugin.activate(RATE, BLOCK)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not status(plugin).startswith("budget too small"):
        assert time.monotonic() < deadline, status(plugin)
        play_in_time(plugin, np.zeros((2, 4 * BLOCK), np.float32))
    assert "budget" in status(plugin).partition(": ")[2], "the remedy"


def test_another_users_socket_is_passed_over_and_hears_nothing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with listener_of_another_user() as listener, bundle.create() as plugin:
        monkeypatch.delenv("BACKLINE_ADDRESS", raising=False)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(listener.path.parent))
        monkeypatch.setenv("HOME", str(tmp_path))
        plugin.flush([parameter(PACK, PASSTHROUGH), parameter(BUDGET, 0.5)])
        plugin.activate(RATE, BLOCK)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while f"another user's (uid {UID}): nothing was sent" not in status(plugin):
            assert time.monotonic() < deadline, status(plugin)
            play_in_time(plugin, noise(BLOCK))
        try:
            serving = start_server("127.0.0.1:50505", device="cpu")
            serving.__enter__()
        except OSError:
            pytest.skip("somebody serves at 127.0.0.1:50505")
        try:
            await_playing(plugin)
            play_in_time(plugin, noise(RATE))
        finally:
            plugin.deactivate()
            serving.__exit__(None, None, None)
    assert listener.received == 0
