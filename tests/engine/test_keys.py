"""Keys that a coming scene is told of are those that the band hears as held."""

import random

import pytest

from backline.engine.keys import Keys
from backline.models.hafm.held import HeldNotes
from backline.models.stream import Notes

RATE = 1_000
PEDAL_DOWN, PEDAL_UP = bytes([0xB0, 64, 127]), bytes([0xB0, 64, 0])
NOTE, RELEASE = bytes([0x90, 60, 90]), bytes([0x80, 60, 0])


def held_by(messages: list[bytes]) -> set[tuple[int, int]]:
    """Channels and pitches that sound for the band after all of them."""
    band = HeldNotes()
    for message in messages:
        band.hear([Notes(0, message)], RATE)
    return band._sounding


def drawn(seed: int) -> list[bytes]:
    """Playing on two channels, with every controller that lets go of something."""
    rng = random.Random(seed)

    def message() -> bytes:
        channel, pitch = rng.randrange(2), rng.randrange(60, 64)
        note = bytes([rng.choice([0x80, 0x90, 0x90]) | channel, pitch, rng.choice([0, 90])])
        return rng.choice(
            [note, note, bytes([0xB0 | channel, rng.choice([64, 64, 120, 121, 123]), rng.choice([0, 127])])]
        )

    return [message() for _ in range(40)]


@pytest.mark.parametrize("control", [120, 121, 123])
def test_what_lets_go_of_everything_lifts_the_pedal(control: int) -> None:
    keys = Keys()
    for message in (PEDAL_DOWN, NOTE, RELEASE, bytes([0xB0, control, 0])):
        keys.hear(message)
    assert keys.told() == []


@pytest.mark.parametrize("seed", range(50))
def test_who_is_told_hears_what_whoever_listened_all_along_hears(seed: int) -> None:
    keys, played = Keys(), drawn(seed)
    for message in played:
        keys.hear(message)
    assert held_by(keys.told()) == held_by(played)
