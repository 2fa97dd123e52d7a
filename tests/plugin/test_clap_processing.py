"""Blocks through an instance that finds no server: the input comes back, delayed as reported, whatever a host does."""

import ctypes
from ctypes import POINTER, byref, pointer

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.plugin import clap_abi as abi
from tests.plugin.clap_events import Event, parameter, transport
from tests.plugin.clap_host import Audio, Bundle, ClapPlugin
from tests.plugin.test_clap_parameters import BUDGET, BYPASS, MODE

RATES = (8_000, 11_025, 22_050, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000)
SHORT = 0.2  # seconds of latency budget: what these tests have to play through


def noise(frames: int, seed: int = 1) -> Audio:
    return np.random.default_rng(seed).uniform(-1, 1, (2, frames)).astype(np.float32)


def delayed(audio: Audio, latency: int) -> Audio:
    return np.concatenate([np.zeros((2, latency), np.float32), audio], axis=1)[:, : audio.shape[1]]


def activate(plugin: ClapPlugin, rate: float = 48_000, max_frames: int = 512, budget: float = SHORT) -> int:
    """Gives the latency."""
    plugin.flush([parameter(BUDGET, budget)])
    plugin.activate(rate, max_frames)
    return plugin.latency


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("in_place", [False, True])
def test_the_latency_is_the_budget_at_every_rate(plugin: ClapPlugin, rate: int, in_place: bool) -> None:
    latency = activate(plugin, rate)
    assert latency == round(SHORT * rate)
    audio = noise(latency + 4096)
    np.testing.assert_array_equal(plugin.play(audio, 512, in_place), delayed(audio, latency))


@pytest.mark.parametrize("block", [1, 2, 17, 64, 128, 441, 512, 1000, 1024, 4096, 8192])
@pytest.mark.parametrize("in_place", [False, True])
def test_every_block_size_plays_the_same(plugin: ClapPlugin, block: int, in_place: bool) -> None:
    latency = activate(plugin, 8_000, block, budget=0.05)
    audio = noise(latency + 2 * max(block, 300))
    np.testing.assert_array_equal(plugin.play(audio, block, in_place), delayed(audio, latency))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(1, 8192), min_size=1, max_size=6))
def test_blocks_of_any_sizes_by_turns_play_the_same(bundle: Bundle, sizes: list[int]) -> None:
    """Larger ones than the host has announced among them."""
    with bundle.create() as plugin:
        latency = activate(plugin, 8_000, 1024, budget=0.05)
        audio = noise(2_500)
        np.testing.assert_array_equal(plugin.play(audio, sizes), delayed(audio, latency))


@pytest.mark.parametrize("rate", [0, 1, 7_999, 192_001, 1e9, -48_000, float("nan"), float("inf")])
def test_rates_that_cannot_be_served_are_refused(plugin: ClapPlugin, rate: float) -> None:
    assert not plugin.call("activate", rate, 1, 512)
    plugin.activate(48_000, 512)


def test_live_has_no_latency(plugin: ClapPlugin) -> None:
    plugin.flush([parameter(MODE, 1.0)])
    assert activate(plugin) == 0
    audio = noise(1000)
    np.testing.assert_array_equal(plugin.play(audio, 128), audio)


def test_bypass_is_the_delayed_input(plugin: ClapPlugin) -> None:
    latency = activate(plugin)
    plugin.process(noise(1), events=[parameter(BYPASS, 1.0)])
    plugin.reset()
    audio = noise(latency + 1000)
    np.testing.assert_array_equal(plugin.play(audio, 128), delayed(audio, latency))


def test_stems_are_silent_without_a_server(plugin: ClapPlugin) -> None:
    activate(plugin)
    for _ in range(100):
        outputs = plugin.process(noise(512))
        assert all(not output.any() for output in outputs[1:])


def test_a_block_of_no_frames_moves_nothing_but_its_events(plugin: ClapPlugin) -> None:
    latency = activate(plugin)
    audio = noise(latency + 512)
    pieces = []
    for start in range(0, audio.shape[1], 512):
        plugin.process(np.zeros((2, 0), np.float32), events=[parameter(BYPASS, float(start % 1024 == 0))])
        assert plugin.value(BYPASS) == float(start % 1024 == 0)
        pieces.append(plugin.process(audio[:, start : start + 512])[0])
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), delayed(audio, latency))


def test_reset_forgets_what_is_under_way(plugin: ClapPlugin) -> None:
    latency = activate(plugin)
    plugin.play(noise(latency // 2), 512)
    plugin.reset()
    audio = noise(latency + 1000, seed=2)
    np.testing.assert_array_equal(plugin.play(audio, 512), delayed(audio, latency))


def test_each_activation_begins_anew(plugin: ClapPlugin) -> None:
    for seed, rate in enumerate((48_000, 8_000, 96_000, 96_000)):
        latency = activate(plugin, rate)
        audio = noise(latency + 1000, seed)
        np.testing.assert_array_equal(plugin.play(audio, 512), delayed(audio, latency))
        plugin.deactivate()
    assert plugin.host.misuse == []


def test_audio_that_is_no_number_or_hardly_one_stays_finite(plugin: ClapPlugin) -> None:
    latency = activate(plugin, 8_000)
    audio = noise(4 * latency)
    audio[0, ::7], audio[1, ::11], audio[0, ::13], audio[1, ::5] = np.nan, np.inf, -np.inf, 1e-42
    for start in range(0, audio.shape[1], 512):
        outputs = plugin.process(audio[:, start : start + 512], sidechain=audio[:, start : start + 512])
        assert all(np.isfinite(output).all() for output in outputs)
    clean = noise(latency + 1000)
    plugin.reset()
    np.testing.assert_array_equal(plugin.play(clean, 512), delayed(clean, latency))


# ---- hosts that do not keep to what was declared ---------------------------------------------------


def test_ports_that_are_not_there_are_silence(plugin: ClapPlugin) -> None:
    latency = activate(plugin, 8_000)
    for inputs, outputs in ((0, 0), (0, 1), (1, 1), (1, 5), (2, 1), (3, 7)):
        for given_channels in (True, False):
            ins = [noise(64) if given_channels else None for _ in range(inputs)]
            outs = [noise(64) if given_channels else None for _ in range(outputs)]
            assert plugin.process_buffers(64, ins, outs) == abi.PROCESS_CONTINUE
    plugin.reset()
    audio = noise(latency + 64)
    np.testing.assert_array_equal(plugin.play(audio, 64), delayed(audio, latency))


def test_a_mono_input_is_heard_on_both_sides(plugin: ClapPlugin) -> None:
    plugin.flush([parameter(MODE, 1.0)])
    activate(plugin)
    mono, out = noise(64)[:1].copy(), np.zeros((2, 64), np.float32)
    assert plugin.process_buffers(64, [mono], [out]) == abi.PROCESS_CONTINUE
    np.testing.assert_array_equal(out, np.repeat(mono, 2, axis=0))


def test_buffers_without_any_pointer_are_tolerated(plugin: ClapPlugin) -> None:
    activate(plugin)
    assert plugin.process_raw(abi.Process(-1, 64)) == abi.PROCESS_CONTINUE
    without = (abi.AudioBuffer * 5)()  # no channels at all
    assert plugin.process_raw(abi.Process(-1, 64, None, without, without, 2, 5)) == abi.PROCESS_CONTINUE
    samples = (ctypes.c_double * 64)()
    doubles = (POINTER(ctypes.c_double) * 2)(*[ctypes.cast(samples, POINTER(ctypes.c_double))] * 2)
    in_64_bits = abi.AudioBuffer(None, doubles, 2)
    block = abi.Process(-1, 64, None, pointer(in_64_bits), pointer(in_64_bits), 1, 1)
    assert plugin.process_raw(block) == abi.PROCESS_CONTINUE


def test_outputs_are_never_called_constant(plugin: ClapPlugin) -> None:
    activate(plugin)
    rows = [np.zeros(64, np.float32) for _ in range(2)]
    channels = (POINTER(ctypes.c_float) * 2)(*(row.ctypes.data_as(POINTER(ctypes.c_float)) for row in rows))
    buffer = abi.AudioBuffer(channels, None, 2, 0, 0b11)
    assert plugin.process_raw(abi.Process(-1, 64, None, None, pointer(buffer), 0, 1)) == abi.PROCESS_CONTINUE
    assert buffer.constant_mask == 0


def test_calls_at_the_wrong_time_are_refused_or_ignored(plugin: ClapPlugin) -> None:
    assert plugin.process_raw(abi.Process(-1, 64)) == abi.PROCESS_ERROR
    assert plugin.call("process", None) == abi.PROCESS_ERROR
    assert not plugin.call("start_processing")
    plugin.call("stop_processing")
    plugin.call("reset")
    plugin.call("deactivate")
    plugin.call("on_main_thread")
    plugin.activate(48_000, 512)
    assert not plugin.call("activate", 48_000.0, 1, 512)
    assert plugin.process(noise(64))
    assert plugin.call("process", None) == abi.PROCESS_ERROR


def test_an_active_instance_may_be_destroyed(bundle: Bundle) -> None:
    plugin = bundle.create()
    plugin.activate(48_000, 512)
    plugin.process(noise(64))
    plugin.call("destroy")
    with bundle.create() as another:  # nothing of the first is in its way
        another.activate(48_000, 512)
        assert np.isfinite(another.process(noise(64))).all()


# ---- the transport -----------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(raw=st.binary(min_size=ctypes.sizeof(abi.TransportEvent), max_size=ctypes.sizeof(abi.TransportEvent)))
def test_a_transport_of_any_bytes_disturbs_no_audio(plugin: ClapPlugin, raw: bytes) -> None:
    if not plugin.active:
        plugin.flush([parameter(MODE, 1.0)])
        activate(plugin)
    audio = noise(64)
    fuzzed = abi.TransportEvent.from_buffer_copy(raw)
    within = abi.TransportEvent.from_buffer_copy(raw)
    within.header = transport(0.0, time=40).header
    changes: list[Event] = [within, transport(3.0, time=50), parameter(BYPASS, 0.0, 60)]
    for events in (changes[:0], changes[:1], changes):
        np.testing.assert_array_equal(plugin.process(audio, events=events, transport=fuzzed)[0], audio)


# ---- many instances ----------------------------------------------------------------------------------


def test_fifty_instances_in_one_process_play_apart(bundle: Bundle) -> None:
    made = [bundle.create() for _ in range(50)]
    latencies = [activate(plugin, 8_000, budget=0.01 * (1 + number)) for number, plugin in enumerate(made)]
    assert len(set(latencies)) == 50
    songs = [noise(latency + 256, seed=number) for number, latency in enumerate(latencies)]
    for plugin, latency, audio in zip(made, latencies, songs, strict=True):
        np.testing.assert_array_equal(plugin.play(audio, 100), delayed(audio, latency))
    for plugin in made:
        plugin.deactivate()
        plugin.call("destroy")


def test_tail_is_known_only_in_bypass(plugin: ClapPlugin) -> None:
    assert plugin.tail >= abi.INFINITE_TAIL
    latency = activate(plugin)
    plugin.process(noise(1), events=[parameter(BYPASS, 1.0)])
    assert plugin.tail == latency


def test_render_mode_is_live_or_offline(plugin: ClapPlugin) -> None:
    assert not plugin.extension(b"clap.render", abi.Render)("has_hard_realtime_requirement")
    for mode, known in ((abi.RENDER_OFFLINE, True), (2, False), (-1, False), (abi.RENDER_REALTIME, True)):
        assert plugin.set_render_mode(mode) == known


def test_no_callback_comes_on_the_wrong_thread(plugin: ClapPlugin) -> None:
    activate(plugin)
    plugin.process(noise(64), events=[parameter(BUDGET, 0.1)])
    assert plugin.host.count("request_callback") >= 1, "the status has changed"
    plugin.serve_callbacks()
    assert plugin.host.count("params.rescan") == 1
    assert plugin.host.misuse == []
    with plugin.host.audio_thread():
        plugin.host.table.request_callback(byref(plugin.host.table))
