"""A take can be had again: the same seed, song and start give the same samples, whatever came before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.plugin.drive import DEFAULT, PLAYING, ROLLING, SEED, STOPPED, Drive, driver
from tests.plugin.server_process import server_process

RATE = 48_000
BUDGET = 3.0  # seconds

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def band_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    address = f"unix:{tmp_path_factory.mktemp('band')}/socket"
    with server_process(address, ["default"]):
        yield address


@pytest.fixture
def drive(built: Path, tmp_path: Path, band_address: str) -> Iterator[Drive]:
    with driver(built, tmp_path, band_address) as made:
        made.say("set", SEED, 7)
        yield made


def take(drive: Drive, latency: int, block: int, *, seconds: float = 4.0, song: float = 5.0, speed: float = 0) -> Audio:
    """What the band plays to the song from there on; the transport stands still afterwards."""
    drive.say("roll", ROLLING)
    drive.say("song", song)
    drive.say("sing", 1)
    audio = drive.run(latency + round(seconds * RATE), block, speed)
    drive.say("roll", STOPPED)
    drive.say("sing", 0)
    assert drive.status() == PLAYING, drive.message()
    return audio[latency:, 4:6]


Audio = NDArray[np.float32]  # [sample, channel]


def test_whatever_the_blocks_and_the_stops_a_take_is_the_same(drive: Drive) -> None:
    drive.say("offline", 1)
    drive.say("roll", STOPPED)
    latency = drive.activate(RATE, seconds=BUDGET, pack=DEFAULT)
    drive.run(RATE, 512, 0)
    first = take(drive, latency, 512)
    assert (first != 0).any(axis=1).mean() > 0.9
    for block, stop in ((480, 0.1), (64, 2.5), (97, 0.7), (4096, 0.1)):
        drive.say("sing", 1)  # somebody rehearses
        drive.run(round(stop * RATE), 512, 0)
        np.testing.assert_array_equal(take(drive, latency, block), first, err_msg=f"blocks of {block}")


def test_another_start_and_another_seed_are_other_takes(drive: Drive) -> None:
    drive.say("offline", 1)
    latency = drive.activate(RATE, seconds=BUDGET, pack=DEFAULT)
    drive.say("roll", STOPPED)
    drive.run(512, 512, 0)
    first = take(drive, latency, 512)
    drive.run(512, 512, 0)
    assert (take(drive, latency, 512, song=6.5) != first).any()
    drive.say("set", SEED, 8)
    drive.run(RATE, 512, 0)
    assert (take(drive, latency, 512) != first).any()


@pytest.mark.paced
def test_on_stage_too(drive: Drive) -> None:
    latency = drive.activate(RATE, 512, seconds=BUDGET, pack=DEFAULT)
    drive.say("roll", STOPPED)
    drive.run(3 * RATE, 512, 1)
    first = take(drive, latency, 512, speed=1)
    drive.run(RATE // 2, 512, 1)
    again = take(drive, latency, 256, speed=1)
    sounding = (first != 0).any(axis=1) & (again != 0).any(axis=1)
    assert sounding.mean() > 0.9
    np.testing.assert_array_equal(again[sounding], first[sounding])
