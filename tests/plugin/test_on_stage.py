"""The accompaniment pack on stage: the CLAP plugin at 48 kHz and blocks of 128, paced as by a sound card."""

import os
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from backline.cli.phrase import sung_phrase
from backline.measures.rhythm import onset_f
from tests.plugin.native import build
from tests.plugin.server_process import in_time, server_process

RATE, BLOCK = 48_000, 128
MINUTES = 1.0
FADE = round(0.005 * RATE)  # samples, between what came and the dry signal where nothing did
HISS = 1e-4  # added to the voice, so that the dry signal is never silent and can be told from the band
UNDERRUNS_ALLOWED = 0.001
ON_GRID = 0.75  # F-measure on eighths; by the pack's card the band reaches .87, its reference .90
PATIENCE_SECONDS = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.paced]
Audio = NDArray[np.float32]  # [sample, channel], as in the files


@pytest.fixture(scope="module")
def host(plugins: Path) -> Path:
    return build(plugins, "", "clap_host") / "clap_host"


@pytest.fixture
def socket(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/backline.sock"


def voice(seconds: float) -> Audio:
    """The bundled phrase, sung over and over, each time from a bar's first beat."""
    phrase = sung_phrase()
    bar = 4 * 60 / phrase.transport.tempo * RATE  # samples
    period = round(phrase.audio.shape[1] / bar) * bar
    song = np.random.default_rng(1).uniform(-HISS, HISS, (round(seconds * RATE), 2)).astype(np.float32)
    for start in np.arange(0, len(song), period).round().astype(int):
        sung = phrase.audio.T[: min(round(period), len(song) - start)]
        song[start : start + len(sung)] += sung
    return song


class Stage:
    """The C++ host in a process of its own; `lines` are what it has said, and when."""

    def __init__(self, host: Path, clap_file: Path, address: str, folder: Path, song: Audio, *settings: str) -> None:
        self._song, self._heard = folder / "song.f32", folder / "heard.f32"
        song.tofile(self._song)
        self.lines: list[tuple[float, str]] = []
        self.process = subprocess.Popen(
            [
                host, clap_file, "--rate", str(RATE), "--block", str(BLOCK),
                "--tempo", str(sung_phrase().transport.tempo), "--seconds", str(len(song) / RATE),
                "--paced", "1", "--await", "60", "--input", self._song, "--output", self._heard,
                *(part for setting in ("Dry/Wet=100 %", *settings) for part in ("--set", setting)),
            ],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "BACKLINE_ADDRESS": address},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.rstrip()))

    def await_playing(self, since: float = 0.0) -> float:
        """When the status became "playing", after `since`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            for when, line in self.lines:
                if when >= since and line.startswith("status playing"):
                    return when
            time.sleep(0.01)
        raise AssertionError(f"does not play: {self.lines}")

    def finish(self) -> Audio:
        """The main output, moved back under its input."""
        assert self.process.wait(MINUTES * 60 + PATIENCE_SECONDS) == 0, self.lines
        self._reader.join()
        return np.fromfile(self._heard, np.float32).reshape(-1, 2)[self.said("latency") :]

    def said(self, name: str) -> int:
        """A number of the host's report."""
        return next(int(line.split()[1]) for _, line in self.lines if line.startswith(f"{name} "))


def test_the_band_plays_on_the_hosts_beat_without_a_gap(
    host: Path, clap_file: Path, socket: str, tmp_path: Path
) -> None:
    song = voice(60 * MINUTES)
    with server_process(socket, ["default"]) as server, in_time(server):
        stage = Stage(host, clap_file, socket, tmp_path, song, "Key=C major", "Seed=7")
        heard = stage.finish()
        assert heard.shape == song.shape
        dry = (heard == song).all(axis=1)
        missing = binary_dilation(dry, iterations=FADE) if dry.any() else dry
        assert missing.mean() <= UNDERRUNS_ALLOWED, stage.lines
        assert stage.said("underruns") <= UNDERRUNS_ALLOWED * stage.said("blocks"), stage.lines

    eighth = 30 / sung_phrase().transport.tempo  # seconds
    grid = np.arange(0, 60 * MINUTES, eighth)
    band = heard.mean(axis=1)
    on, between = onset_f(band, RATE, grid), onset_f(band, RATE, grid + eighth / 2)
    assert on >= ON_GRID, (on, between)
    assert between < on / 3, (on, between)


def test_a_server_that_comes_back_is_heard_within_two_seconds_and_in_place(
    host: Path, clap_file: Path, socket: str, tmp_path: Path
) -> None:
    """The wet signal is the input at half the level, so dry, wet and the way back to it lie on top of each other.

    Only the fall from wet to dry holds what came last, for nothing else is there.
    """
    song = voice(20)
    with server_process(socket) as server:
        stage = Stage(host, clap_file, socket, tmp_path, song, "Pack=passthrough", "Gain=-6 dB", "Latency budget=0.5")
        stage.await_playing()
        time.sleep(4)
        server.kill()
    with server_process(socket) as server, in_time(server):
        listens = time.monotonic()
        assert stage.await_playing(since=listens) - listens < 2.0, stage.lines
        heard = stage.finish()
        wet = 10 ** (-6 / 20)
        is_dry = np.flatnonzero((heard == song).all(axis=1))
        first, last = is_dry[0], is_dry[-1]
        assert len(is_dry) > RATE, "dry meanwhile"
        heard, song = (np.delete(audio, np.s_[first - FADE : first], axis=0) for audio in (heard, song))
        loud = np.abs(song) > 0.01
        level = heard[loud] / song[loud]
        assert level.min() > wet - 1e-4
        assert level.max() < 1 + 1e-4, "nothing out of place, ever"
        # The take begins with *play*, and fades in; a fade's length has been cut out between before and after.
        before, after = np.s_[FADE : first - FADE], np.s_[last + 1 :]
        np.testing.assert_allclose(heard[before], np.float32(wet) * song[before], atol=1e-6)
        np.testing.assert_allclose(heard[after], np.float32(wet) * song[after], atol=1e-6)
        assert min(first, len(heard) - last) > 3 * RATE, "wet before and after"
