"""Parameters as a host meets them: descriptions, texts, and values that arrive by event or by flush."""

import ctypes
import math
from collections.abc import Sequence

import numpy as np
import pytest

from tests.plugin import clap_abi as abi
from tests.plugin.clap_events import Event, midi, note, parameter
from tests.plugin.clap_host import Bundle, ClapPlugin

NAMES = [
    "Pack", "Mode", "Dry/Wet", "Gain", "Guidance", "Temperature", "Key", "Seed", "Visibility", "Chunk",
    "Latency budget", "Input", "Bypass", "Status", *(f"Pack parameter {slot}" for slot in range(1, 9)),
    "Prompt", "On jump", "Timing",
]  # fmt: skip
UNUSED = range(NAMES.index("Status") + 1, NAMES.index("Prompt"))  # as long as no pack names them
MODE, DRY_WET, GAIN, KEY, BUDGET, BYPASS, STATUS = (
    NAMES.index(name) for name in ("Mode", "Dry/Wet", "Gain", "Key", "Latency budget", "Bypass", "Status")
)
FRAMES = 64
SILENCE = np.zeros((2, FRAMES), np.float32)
TENTH = np.zeros((2, 4800), np.float32)  # of a second


def deliver(plugin: ClapPlugin, events: Sequence[Event], way: str) -> None:
    """Brings events to the plugin: in a block, or in a flush while it is active or not."""
    if way != "flush, inactive" and not plugin.active:
        plugin.activate(48_000, FRAMES)
    if way == "process":
        plugin.process(SILENCE, events=events)
    else:
        plugin.flush(events)


WAYS = pytest.mark.parametrize("way", ["process", "flush", "flush, inactive"])


def values(plugin: ClapPlugin) -> list[float | None]:
    return [plugin.value(info.id) for info in plugin.params()]


def test_ids_are_stable(plugin: ClapPlugin) -> None:
    """Projects name parameters by id: what stands here may grow at its end and must not change otherwise."""
    assert [(info.id, info.name.decode()) for info in plugin.params()] == list(enumerate(NAMES))


def test_ranges_hold_the_default_and_the_value(plugin: ClapPlugin) -> None:
    for info in plugin.params():
        assert math.isfinite(info.min_value)
        assert math.isfinite(info.max_value)
        assert info.min_value < info.max_value
        assert info.min_value <= info.default_value <= info.max_value
        assert plugin.value(info.id) == info.default_value


def test_flags_say_what_a_host_may_do(plugin: ClapPlugin) -> None:
    for info in plugin.params():
        stepped, read_only = info.flags & abi.PARAM_STEPPED, info.flags & abi.PARAM_READONLY
        assert bool(read_only) == (info.id == STATUS)
        assert not (read_only and info.flags & abi.PARAM_AUTOMATABLE)
        if stepped:
            assert info.min_value == int(info.min_value)
            assert info.max_value == int(info.max_value)
            assert info.default_value == int(info.default_value)
        if info.flags & abi.PARAM_BYPASS:
            assert (info.id, info.min_value, info.max_value) == (BYPASS, 0, 1)
            assert stepped
    assert sum(bool(info.flags & abi.PARAM_BYPASS) for info in plugin.params()) == 1


def test_hosts_that_show_only_what_can_be_automated_show_everything(plugin: ClapPlugin) -> None:
    for info in plugin.params():
        assert bool(info.flags & abi.PARAM_AUTOMATABLE) == (info.id != STATUS), info.name


def test_what_no_pack_names_is_hidden_and_inert(plugin: ClapPlugin) -> None:
    assert [info.id for info in plugin.params() if info.flags & abi.PARAM_HIDDEN] == list(UNUSED)
    before = plugin.save()
    plugin.flush([parameter(identifier, 0.75) for identifier in UNUSED])
    assert [plugin.value(identifier) for identifier in UNUSED] == [0.0] * len(UNUSED)
    assert plugin.save() == before


def test_choices_are_lists_of_names(plugin: ClapPlugin) -> None:
    for info in plugin.params():
        named = bool(info.flags & abi.PARAM_ENUM)
        assert named == (NAMES[info.id] in {"Pack", "Mode", "Key", "Input", "Bypass", "Status", "On jump", "Timing"})
        if named:
            assert info.flags & abi.PARAM_STEPPED
            names = [plugin.text(info.id, value) for value in range(int(info.min_value), int(info.max_value) + 1)]
            assert len(set(names)) == len(names)
            assert all(name and not name.isdigit() for name in names)


@pytest.mark.parametrize("identifier", [len(NAMES), 1000, abi.INVALID_ID])
def test_unknown_ids_are_answered_no(plugin: ClapPlugin, identifier: int) -> None:
    assert plugin.value(identifier) is None
    assert plugin.text(identifier, 0.0) is None
    assert plugin.value_of_text(identifier, "0") is None
    params = plugin.extension(b"clap.params", abi.Params)
    assert not params("get_info", identifier, ctypes.byref(abi.ParamInfo()))


def test_texts_round_trip(plugin: ClapPlugin) -> None:
    """Text to value and back is the same text, over the whole range of every parameter."""
    for info in plugin.params():
        points = np.linspace(info.min_value, info.max_value, 33)
        for value in np.unique(np.trunc(points) if info.flags & abi.PARAM_STEPPED else points):
            text = plugin.text(info.id, float(value))
            assert text
            again = plugin.value_of_text(info.id, text)
            assert again is not None, (info.name, value, text)
            assert plugin.text(info.id, again) == text, (info.name, value, text, again)
            if info.flags & abi.PARAM_STEPPED:
                assert again == value


def test_numbers_have_their_units_and_choices_their_names(plugin: ClapPlugin) -> None:
    assert plugin.text(DRY_WET, 0.5) == "50.0 %"
    assert plugin.text(GAIN, -6.0) == "-6.0 dB"
    assert plugin.text(MODE, 1.0) == "live"
    assert plugin.text(KEY, 1.0) == "C major"
    assert plugin.text(BUDGET, 2.5) == "2.500 s"
    assert plugin.value_of_text(BUDGET, "2.5") == 2.5


def test_text_that_says_nothing_is_refused(plugin: ClapPlugin) -> None:
    for info in plugin.params():
        if NAMES[info.id] == "Prompt":
            continue  # of which any words say something
        for text in ("", "no such thing", "\xff", "nan", "--1"):
            assert plugin.value_of_text(info.id, text) is None, (info.name, text)


def test_texts_are_cut_to_the_room_there_is(plugin: ClapPlugin) -> None:
    whole = plugin.text(GAIN, -6.0)
    assert whole is not None
    for size in range(1, len(whole) + 2):
        assert plugin.text(GAIN, -6.0, size) == whole[: size - 1]
    assert plugin.text(GAIN, math.nan) is None


@WAYS
def test_values_arrive(plugin: ClapPlugin, way: str) -> None:
    wanted = {DRY_WET: 0.25, GAIN: -12.5, KEY: 13.0, BYPASS: 1.0}
    before = values(plugin)
    deliver(plugin, [parameter(identifier, value) for identifier, value in wanted.items()], way)
    for identifier, value in enumerate(values(plugin)):
        if identifier != STATUS:
            assert value == wanted.get(identifier, before[identifier])


@WAYS
def test_the_newest_of_several_values_holds(plugin: ClapPlugin, way: str) -> None:
    deliver(plugin, [parameter(GAIN, -time / 2, time) for time in range(FRAMES)], way)
    assert plugin.value(GAIN) == -(FRAMES - 1) / 2


@WAYS
def test_many_more_events_than_frames_are_all_read(plugin: ClapPlugin, way: str) -> None:
    deliver(plugin, [parameter(GAIN, -10.0)] * 2000 + [parameter(GAIN, -11.0)] + [note(abi.NOTE_ON, 60)] * 2000, way)
    assert plugin.value(GAIN) == -11.0


@WAYS
def test_values_out_of_range_are_clamped(plugin: ClapPlugin, way: str) -> None:
    for info in plugin.params():
        if info.id == STATUS or info.id in UNUSED:
            continue
        for value, clamped in ((1e300, info.max_value), (-1e300, info.min_value), (math.inf, info.max_value)):
            deliver(plugin, [parameter(info.id, value)], way)
            assert plugin.value(info.id) == clamped, info.name


@WAYS
def test_stepped_values_are_truncated_as_clap_has_it(plugin: ClapPlugin, way: str) -> None:
    deliver(plugin, [parameter(KEY, 7.9)], way)
    assert plugin.value(KEY) == 7.0


@WAYS
def test_what_is_not_meant_for_us_changes_nothing(plugin: ClapPlugin, way: str) -> None:
    cut_short = parameter(GAIN, -1.0)
    cut_short.header.size = ctypes.sizeof(abi.EventHeader)
    modulation = parameter(GAIN, -2.0)
    modulation.header.type = abi.PARAM_MOD
    deliver(plugin, [], way)  # so that the status is the same before and after
    before = values(plugin)
    deliver(
        plugin,
        [
            parameter(GAIN, -3.0, space=1),
            parameter(GAIN, -4.0, space=0xFFFF),
            parameter(len(NAMES), 1.0),
            parameter(abi.INVALID_ID, 1.0),
            parameter(GAIN, math.nan),
            parameter(STATUS, 3.0),
            cut_short,
            modulation,
        ],
        way,
    )
    assert values(plugin) == before


def test_events_out_of_order_or_beyond_the_block_are_tolerated(plugin: ClapPlugin) -> None:
    plugin.activate(48_000, FRAMES)
    plugin.process(SILENCE, events=[parameter(GAIN, -1.0, 50), parameter(GAIN, -2.0, 3), parameter(GAIN, -5.0, 10**6)])
    assert plugin.value(GAIN) == -5.0


def test_notes_and_midi_of_any_kind_are_tolerated(plugin: ClapPlugin) -> None:
    plugin.activate(48_000, FRAMES)
    generator = np.random.default_rng(3)
    events: list[Event] = [midi(generator.bytes(3), int(generator.integers(FRAMES))) for _ in range(500)]
    for kind in (abi.NOTE_ON, abi.NOTE_OFF, abi.NOTE_CHOKE):
        for channel, key in ((-1, -1), (-1, 60), (3, -1), (15, 127), (16, 60), (0, 128), (-32768, 32767)):
            events += [note(kind, key, velocity, channel) for velocity in (0.0, 1.0, 7.0, math.nan)]
    outputs = plugin.process(SILENCE, events=sorted(events, key=lambda event: event.header.time))
    assert all(np.isfinite(output).all() for output in outputs)


def test_flush_without_lists_is_tolerated(plugin: ClapPlugin) -> None:
    before = plugin.save()
    plugin.extension(b"clap.params", abi.Params)("flush", None, None)
    assert plugin.save() == before


def test_a_new_latency_asks_for_a_restart_once_and_comes_with_it(bundle: Bundle) -> None:
    with bundle.create() as plugin:
        plugin.activate(48_000, 4800)
        before = plugin.latency
        plugin.process(TENTH, events=[parameter(BUDGET, 1.5)])
        for _ in range(8):
            plugin.process(TENTH)
        assert plugin.host.count("request_restart") == 0, "it may yet move on"
        for _ in range(30):
            plugin.process(TENTH)
        assert plugin.host.count("request_restart") == 1
        assert plugin.latency == before, "constant while active"
        told = plugin.host.count("latency.changed")
        plugin.deactivate()
        plugin.activate(48_000, 4800)
        assert plugin.latency == 72_000
        assert plugin.host.count("latency.changed") == told + 1
        assert plugin.host.misuse == []


@pytest.mark.parametrize("way", ["process", "flush"])
def test_a_curve_of_ten_seconds_asks_for_no_restart_until_it_stands(plugin: ClapPlugin, way: str) -> None:
    plugin.activate(48_000, 4800)
    for step in range(100):
        curve = [parameter(BUDGET, step / 20), parameter(MODE, step // 5 % 2)]
        if way == "flush":
            plugin.flush(curve)
        plugin.process(TENTH, events=curve if way == "process" else ())
        assert plugin.host.count("request_restart") == 0
    for _ in range(30):
        plugin.process(TENTH)
    assert plugin.host.count("request_restart") == 1


def test_a_bounce_is_not_asked_to_restart(plugin: ClapPlugin) -> None:
    plugin.set_render_mode(abi.RENDER_OFFLINE)
    plugin.activate(48_000, 4800)
    plugin.process(TENTH, events=[parameter(BUDGET, 1.5)])
    for _ in range(30):
        plugin.process(TENTH)
    assert plugin.host.count("request_restart") == 0
    plugin.set_render_mode(abi.RENDER_REALTIME)
    plugin.process(TENTH)
    assert plugin.host.count("request_restart") == 1, "but afterwards"
