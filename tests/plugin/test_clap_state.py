"""The state in a project file: reproducible, complete, and nothing else is taken for one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.plugin import clap_abi as abi
from tests.plugin import native
from tests.plugin.clap_events import parameter
from tests.plugin.clap_host import Bundle, ClapPlugin
from tests.plugin.test_clap_parameters import BUDGET, GAIN, STATUS, values
from tests.plugin.vst3 import noise

PROJECT_OF_45799D0 = Path(__file__).parents[1] / "support" / "old" / "plugin.state"  # as both of its formats saved it
FIXTURES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)


def set_at_random(plugin: ClapPlugin, seed: int) -> None:
    generator = np.random.default_rng(seed)
    plugin.flush([parameter(info.id, generator.uniform(info.min_value, info.max_value)) for info in plugin.params()])


def test_the_same_settings_are_the_same_bytes(plugin: ClapPlugin) -> None:
    assert plugin.save() == plugin.save()


@pytest.mark.parametrize("most", [1, 7, 1 << 20])
def test_a_state_survives_another_instance_and_streams_of_any_grain(bundle: Bundle, most: int) -> None:
    with bundle.create() as plugin, bundle.create() as other:
        set_at_random(plugin, seed=most)
        state = plugin.save(most)
        assert values(other) != values(plugin)
        assert other.load(state, most)
        assert values(other) == values(plugin)
        assert other.save() == state == plugin.save()


def test_loading_tells_the_host_to_look_again(bundle: Bundle) -> None:
    with bundle.create() as plugin:
        state = plugin.save()
        assert plugin.load(state)
        assert plugin.host.count("params.rescan") == 1


def test_the_latency_comes_from_the_state(bundle: Bundle) -> None:
    with bundle.create() as plugin, bundle.create() as other:
        plugin.flush([parameter(BUDGET, 2.0)])
        assert other.load(plugin.save())
        other.activate(48_000, 64)
        assert other.latency == 96_000


def test_a_state_loaded_while_active_keeps_the_latency_and_asks_for_a_restart(bundle: Bundle) -> None:
    with bundle.create() as plugin, bundle.create() as other:
        plugin.flush([parameter(BUDGET, 2.0)])
        other.activate(48_000, 64)
        before = other.latency
        assert other.load(plugin.save())
        assert other.latency == before
        assert other.host.count("request_restart") == 1


def test_what_is_empty_or_cut_short_or_too_long_is_refused_and_changes_nothing(plugin: ClapPlugin) -> None:
    set_at_random(plugin, seed=1)
    state = plugin.save()
    plugin.flush([parameter(GAIN, -7.0)])
    before = values(plugin)
    for length in range(len(state)):
        assert not plugin.load(state[:length]), length
    assert not plugin.load(state + b"\0")
    assert not plugin.load(b"\0" * (4 << 20))
    assert values(plugin) == before


@FIXTURES
@given(garbage=st.binary(max_size=300))
def test_garbage_is_refused_and_changes_nothing(plugin: ClapPlugin, garbage: bytes) -> None:
    before = values(plugin)
    assert not plugin.load(garbage)
    assert values(plugin) == before


@FIXTURES
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_byte_leaves_sound_values(plugin: ClapPlugin, at: int, byte: int) -> None:
    """Refused, or taken with every value in its range: never anything in between."""
    state = bytearray(plugin.save())
    state[at % len(state)] = byte
    plugin.load(bytes(state))
    for info in plugin.params():
        value = plugin.value(info.id)
        assert value is not None
        assert info.min_value <= value <= info.max_value


def test_streams_that_fail_are_refused(plugin: ClapPlugin) -> None:
    assert not plugin.load_from(lambda *_: -1)
    assert not plugin.save_to(lambda *_: -1)
    assert not plugin.save_to(lambda *_: 0)


def test_the_status_is_no_setting(bundle: Bundle) -> None:
    with bundle.create() as plugin:
        idle = plugin.save()
        plugin.activate(48_000, 64)
        assert plugin.value(STATUS) != 0
        assert plugin.save() == idle


SAVED = [
    1.0,
    0.0,
    1.0,
    -4.5,
    2.5,
    0.75,
    22.0,
    4711.0,
    0.5,
    0.2,
    0.25,
    1.0,
    0.0,
]  # all that it had


def test_a_project_of_45799d0_opens_with_its_values_and_routing(bundle: Bundle, served: str) -> None:
    """It had five outputs, main and stems 1 to 4: they are the same ports, and play what they played."""
    with bundle.create() as plugin:
        assert plugin.load(PROJECT_OF_45799D0.read_bytes())
        assert values(plugin)[: len(SAVED)] == SAVED
        ports = [(port.id, port.name) for index in range(5) if (port := plugin.audio_port(index, False))]
        assert ports == [(0, b"Output"), (1, b"Stem 1"), (2, b"Stem 2"), (3, b"Stem 3"), (4, b"Stem 4")]
        plugin.flush([parameter(GAIN, 0.0)])
        plugin.set_render_mode(abi.RENDER_OFFLINE)
        plugin.activate(48_000, 480)
        band, voice = noise(48_000, 1), noise(48_000, 2)
        played: list[list[np.ndarray]] = []
        for start in range(0, 48_000, 480):
            inputs = [np.ascontiguousarray(audio[:, start : start + 480]) for audio in (band, voice)]
            outputs = [np.empty((2, 480), np.float32) for _ in range(5)]
            assert plugin.process_buffers(480, inputs, outputs) == abi.PROCESS_CONTINUE
            played.append(outputs)
        main, first, *_, last = (np.concatenate([block[port] for block in played], axis=1) for port in range(5))
        np.testing.assert_array_equal(main[:, plugin.latency :], voice[:, : -plugin.latency])
        np.testing.assert_array_equal(first, main)
        assert not last.any()


def test_vst3_opens_it_too(plugins: Path, vst3_binary: Path, served: str) -> None:
    host = native.build(plugins, "", "vst3_host") / "vst3_host"
    environment = {"BACKLINE_OLDER_PROJECT": str(PROJECT_OF_45799D0)}
    native.run(host, vst3_binary, "server_project_of_five_outputs", environment=environment)
