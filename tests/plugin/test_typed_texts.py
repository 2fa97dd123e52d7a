"""What people type into a host's field for a parameter: as their keyboard has it, or not at all."""

import math

import pytest

from tests.plugin.clap_events import parameter
from tests.plugin.clap_host import ClapPlugin
from tests.plugin.test_clap_parameters import NAMES

NOTES = ["C", "C# Db D♭ C♯", "D", "Eb D# E♭ D♯", "E Fb", "F E#", "F# Gb F♯ G♭", "G", "Ab G# A♭", "A", "Bb A#", "B Cb"]
MAJOR = ("{}", "{} major", "{}maj", "{}M")
MINOR = ("{}m", "{} minor", "{}min", "{} Minor", "{}-minor")


def value(plugin: ClapPlugin, name: str, text: str) -> float | None:
    return plugin.value_of_text(NAMES.index(name), text)


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("Dry/Wet", "0,5", 0.005),
        ("Dry/Wet", "12,5 %", 0.125),
        ("Dry/Wet", "100%", 1.0),
        ("Gain", "-inf", -60.0),
        ("Gain", "-inf dB", -60.0),
        ("Gain", "\u2212∞ dB", -60.0),
        ("Gain", "-INF", -60.0),
        ("Gain", "\u22126 dB", -6.0),
        ("Gain", "+3,5db", 3.5),
        ("Guidance", "2\u00d7", 2.0),
        ("Temperature", ",5", 0.5),
        ("Latency budget", "2700 ms", 2.7),
        ("Latency budget", "2700ms", 2.7),
        ("Latency budget", "2,7", 2.7),
        ("Latency budget", "2.7 s", 2.7),
        ("Latency budget", "2,7\u202fs", 2.7),
        ("Visibility", "-500 ms", -0.5),
        ("Visibility", "Auto", -2.1),
        ("Chunk", "AUTO", 0.0),
        ("Seed", "Random", 0.0),
        ("Seed", " 123456 ", 123456.0),
        ("Key", "Listen", 0.0),
        ("Mode", "LIVE", 1.0),
        ("Bypass", "On", 1.0),
        ("Pack", "Default", 0.0),
        ("Pack", "PassThrough", 1.0),
    ],
)
def test_is_taken(plugin: ClapPlugin, name: str, text: str, wanted: float) -> None:
    found = value(plugin, name, text)
    assert found is not None
    assert math.isclose(found, wanted, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Latency budget", "2700"),  # would be 45 minutes, and is not 10 s
        ("Latency budget", "-1 s"),
        ("Latency budget", "2,700 ms"),  # 2.7 s to some, 2.7 ms to others
        ("Latency budget", "2 dB"),
        ("Visibility", "-2.05 s"),  # less than the least, and not "auto"
        ("Dry/Wet", "120 %"),
        ("Gain", "13 dB"),
        ("Gain", "-70 dB"),
        ("Gain", "inf"),
        ("Gain", "+-3"),
        ("Seed", "1000000"),
        ("Seed", "1.5"),
        ("Key", "H"),
        ("Key", "Amm"),
        ("Key", "25"),
        ("Mode", "2"),
        ("Chunk", "random"),
        ("Pack", "defaul"),
        ("Pack", "1.5"),
    ],
)
def test_is_refused(plugin: ClapPlugin, name: str, text: str) -> None:
    assert value(plugin, name, text) is None


@pytest.mark.parametrize("pitch", range(12))
def test_keys_have_many_names(plugin: ClapPlugin, pitch: int) -> None:
    for note in NOTES[pitch].split():
        for forms, first in ((MAJOR, 1), (MINOR, 13)):
            for form in forms:
                text = form.format(note)
                assert value(plugin, "Key", text) == first + pitch, text
    assert value(plugin, "Key", "F sharp minor") == 19
    assert value(plugin, "Key", "b flat") == 11


def test_values_that_come_as_numbers_are_still_clamped(plugin: ClapPlugin) -> None:
    budget = NAMES.index("Latency budget")
    plugin.flush([parameter(budget, 2700.0)])
    assert plugin.value(budget) == 10.0
