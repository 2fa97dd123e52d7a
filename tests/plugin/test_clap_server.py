"""The CLAP plugin through a real server. The first stem carries the pack's output alone: what it holds came back."""

import re
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
SEED = NAMES.index("Seed")
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


def test_the_seed_that_was_drawn_is_shown_and_can_be_kept(make: Make) -> None:
    plugin = make()
    assert plugin.text(SEED, 0.0) == "random"
    plugin.set_render_mode(abi.RENDER_OFFLINE)
    plugin.activate(RATE, BLOCK)
    plugin.play(noise(plugin.latency + BLOCK), BLOCK)
    text = plugin.text(SEED, 0.0)
    assert text is not None
    found = re.fullmatch(r"random \((\d{1,6})\)", text)
    assert found
    drawn = int(found[1])
    assert 1 <= drawn <= plugin.params()[SEED].max_value
    assert f"seed {drawn}" in status(plugin)
    assert plugin.value_of_text(SEED, text) == 0.0, "still random"
    plugin.deactivate()
    assert plugin.text(SEED, 0.0) == text, "it is wanted when the bounce is over"
    plugin.flush([parameter(SEED, drawn)])
    plugin.activate(RATE, BLOCK)
    plugin.play(noise(plugin.latency + BLOCK), BLOCK)
    assert f"seed {drawn}" in status(plugin)


def test_the_host_is_told_that_another_seed_was_drawn(make: Make) -> None:
    plugin = make()
    plugin.set_render_mode(abi.RENDER_OFFLINE)
    texts = set()
    for _ in range(3):
        plugin.activate(RATE, BLOCK)
        plugin.process(noise(BLOCK))
        plugin.host.calls.clear()
        texts.add(plugin.text(SEED, 0.0))
        plugin.reset()  # a bounce begins anew, with a status that is the same as before
        while plugin.text(SEED, 0.0) in texts:
            plugin.process(noise(BLOCK))
        plugin.process(noise(BLOCK))
        plugin.serve_callbacks()
        assert plugin.host.count("params.rescan") == 1
        plugin.deactivate()
    assert len(texts) == 3


@pytest.mark.slow
def test_a_take_comes_again_with_the_seed_that_was_shown(make: Make) -> None:
    def bounce(plugin: ClapPlugin) -> Audio:
        plugin.set_render_mode(abi.RENDER_OFFLINE)
        plugin.activate(RATE, BLOCK)
        heard = plugin.play(0.1 * noise(6 * RATE), BLOCK)
        plugin.deactivate()
        return heard

    plugin, other = make(), make()
    for one in (plugin, other):
        one.flush([parameter(PACK, 0.0), parameter(BUDGET, 3.0)])
    first = bounce(plugin)
    assert not np.array_equal(bounce(other), first), "another seed, another take"
    plugin_text = plugin.text(SEED, 0.0) or ""
    other.flush([parameter(SEED, float(re.sub(r"\D", "", plugin_text)))])
    np.testing.assert_array_equal(bounce(other), first)


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
