"""pedalboard plays the .vst3: a JUCE host that bounces, and takes the reported latency off its output by itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plugin.vst3 import factor, noise

pedalboard = pytest.importorskip("pedalboard", reason="pedalboard is not installed: pip install -e '.[dev]'")

GAIN = -6.0  # dB: at unity wet and dry would be the same
Make = Callable[[], Any]


@pytest.fixture
def make(vst3_bundle: Path) -> Make:
    """Makes instances that play the pass-through pack, wet only."""

    def make_one() -> Any:
        plugin = pedalboard.load_plugin(str(vst3_bundle))
        plugin.pack, plugin.dry_wet, plugin.gain_db, plugin.latency_budget_s = "passthrough", 100.0, GAIN, 0.25
        return plugin

    return make_one


def test_the_parameters_have_names_units_and_texts(vst3_bundle: Path) -> None:
    plugin = pedalboard.load_plugin(str(vst3_bundle))
    assert (plugin.name, plugin.manufacturer_name) == ("Backline", "Backline")
    found = set(plugin.parameters)
    assert found >= {"pack", "mode", "dry_wet", "gain_db", "guidance_x", "temperature", "seed", "visibility_s"}
    assert found >= {"chunk_s", "latency_budget_s", "input", "key", "bypass", "status"}
    plugin.pack, plugin.mode, plugin.bypass, plugin.gain_db = "passthrough", "live", True, -12.0
    assert (plugin.pack, plugin.mode, plugin.bypass, plugin.gain_db) == ("passthrough", "live", True, -12.0)
    assert plugin.parameters["gain_db"].label == "dB"
    assert plugin.parameters["pack"].valid_values == ["default", "passthrough", "stems", "mge"]
    assert len(plugin.parameters["key"].valid_values) == 25
    with pytest.raises(ValueError):
        plugin.mode = "sideways"


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("block", [32, 1000, 8192])
def test_a_bounce_is_the_input_times_the_gain_bit_for_bit(make: Make, served: str, rate: int, block: int) -> None:
    plugin = make()
    audio = noise(rate)
    heard = plugin.process(audio, rate, buffer_size=block)
    assert plugin.reported_latency_samples == round(0.25 * rate)
    np.testing.assert_array_equal(heard, factor(GAIN) * audio)


def test_a_second_bounce_is_the_first(make: Make, served: str) -> None:
    plugin = make()
    audio = noise(48_000)
    first = plugin.process(audio, 48_000)
    np.testing.assert_array_equal(plugin.process(audio, 48_000), first)


def test_two_instances_follow_each_other_in_a_chain(make: Make, served: str) -> None:
    audio = noise(48_000)
    heard = pedalboard.Pedalboard([make(), make()])(audio, 48_000)
    np.testing.assert_array_equal(heard, factor(GAIN) * (factor(GAIN) * audio))


def test_a_mono_track_stays_mono(make: Make, served: str) -> None:
    audio = noise(48_000)[0]
    np.testing.assert_array_equal(make().process(audio, 48_000), factor(GAIN) * audio)


def test_bypass_passes_the_input_as_it_is(make: Make, served: str) -> None:
    plugin = make()
    plugin.bypass = True
    audio = noise(48_000)
    np.testing.assert_array_equal(plugin.process(audio, 48_000), audio)


def test_a_project_finds_its_settings_again(make: Make, served: str) -> None:
    one, other = make(), make()
    one.seed, one.gain_db, one.latency_budget_s = "7000", -24.0, 0.1
    state = one.raw_state
    other.raw_state = state
    assert other.raw_state == state
    for name in set(one.parameters):
        if name == "status" or name.startswith("pack_parameter"):  # these show what the server has said by then
            continue
        assert getattr(other, name) == getattr(one, name), name
    audio = noise(24_000)
    np.testing.assert_array_equal(other.process(audio, 48_000), factor(-24.0) * audio)
    assert other.reported_latency_samples == 4800


@pytest.mark.slow
@pytest.mark.paced
def test_a_bounce_without_a_server_gives_up_and_holds_the_dry_input(make: Make, unserved: None) -> None:
    """It waits for a server first: a bounce may be what starts the day."""
    audio = noise(96_000)
    heard = make().process(audio, 48_000)
    fade = 0.01 * 48_000  # into the dry signal, at most
    np.testing.assert_array_equal(heard[:, int(fade) :], audio[:, int(fade) :])


@pytest.mark.slow
def test_the_default_pack_plays_the_same_again_for_the_same_seed(vst3_bundle: Path, served: str) -> None:
    def bounce() -> np.ndarray[Any, np.dtype[np.float32]]:
        plugin = pedalboard.load_plugin(str(vst3_bundle))
        plugin.pack, plugin.dry_wet, plugin.seed = "default", 100.0, "1000"
        heard: np.ndarray[Any, np.dtype[np.float32]] = plugin.process(0.1 * noise(4 * 48_000), 48_000)
        return heard

    first = bounce()
    assert np.abs(first).max() > 1e-3
    assert not np.array_equal(first, np.float32(0.1) * noise(4 * 48_000)), "the dry input is not what the pack plays"
    np.testing.assert_array_equal(bounce(), first)
