"""Ardour bounces a song through the .vst3: a whole session, without its window, scripted in its own Lua."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from backline.cli.phrase import Phrase, sung_phrase
from backline.measures.rhythm import onset_f
from tests.plugin.drive import FAILED
from tests.plugin.hosts import at_home, found, scan_for_ardour
from tests.plugin.server_process import server_process

SCRIPT = Path(__file__).with_name("export_song.lua")
SECONDS = 8  # of the phrase
EXPORT_SECONDS = 240  # after which Ardour counts as hanging
SILENT = 1e-3  # RMS of half a second of a band that does not play
PIECE = 64  # samples; where the plugin passes dry it does so for longer, its fades not counted
ROUNDING = 1e-6  # of a sample of 32 bits that Ardour's faders and buses have passed on
LIKENESS = 0.3  # of a second of the band and the voice: their correlation, at most
ON_GRID = 0.75  # F-measure on eighths; by the pack's card the band reaches .87, its reference .90

# 32 bits at the session's rate and without dither, which Ardour has a format for but no preset.
PRESET_ID = "5bd1b7a0-5d47-4d5e-9f0c-b0c7a1b10001"
PRESET = f"""<?xml version="1.0" encoding="UTF-8"?>
<ExportPreset id="{PRESET_ID}" name="32 bits">
  <ExportFormat id="20b4ab09-6452-4cb3-bd66-b921cdbd2942"/>
  <ExportFilename>
    <Folder relative="true" path="/export"/>
    <Field name="timespan" enabled="true"/>
    <Field name="time" enabled="false" value="T_None"/>
    <Field name="date" enabled="false" value="D_None"/>
  </ExportFilename>
</ExportPreset>
"""

pytestmark = [pytest.mark.hosts, pytest.mark.slow]
Audio = NDArray[np.float32]  # [sample, channel], as in the files


@dataclass
class Ardour:
    """A user's Ardour, with the plugin and a recording of the phrase."""

    program: Path
    home: Path
    recording: Path
    phrase: Phrase

    def export(self, folder: Path, samples: int, address: str, **dry_wet: float) -> dict[str, int]:
        """Exports a session of `samples` once for each name, at that Dry/Wet, as folder/export/NAME.wav.

        Returns:
            The plugin's Status half a second after each.
        """
        wanted = [f"{name}={value:g}" for name, value in dry_wet.items()]
        told = (folder, self.recording, str(samples), f"{self.phrase.transport.tempo:g}", PRESET_ID, *wanted)
        # ARDOUR_FPU_FLAGS: without it 7.3 writes beyond its buffers where there is AVX-512 (d023ea0d77, in 8.5).
        done = subprocess.run(
            [self.program, SCRIPT, *told],
            env={**at_home(self.home), "BACKLINE_ADDRESS": address, "ARDOUR_FPU_FLAGS": "0"},
            capture_output=True,
            text=True,
            timeout=EXPORT_SECONDS,
            check=False,
        )
        said = [line.split() for line in done.stdout.splitlines() if line.partition(" ")[0] in dry_wet]
        assert [line[:2] for line in said] == [[name, "true"] for name in dry_wet], done.stdout + done.stderr
        assert done.returncode == 0, done.stdout + done.stderr
        return {name: int(status) for name, _, status in said}


@pytest.fixture(scope="module")
def ardour(vst3_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Ardour:
    program, home = found("bin/ardour7-lua", "ardour"), tmp_path_factory.mktemp("home")
    bundle = home / ".vst3" / vst3_bundle.name
    shutil.copytree(vst3_bundle, bundle)
    scan_for_ardour(bundle, home)
    preset = home / ".config" / "ardour7" / "export" / "float.preset"
    preset.parent.mkdir(parents=True)
    preset.write_text(PRESET)
    phrase = sung_phrase()
    soundfile.write(home / "voice.wav", phrase.audio.T, phrase.rate, "FLOAT")
    return Ardour(program, home, home / "voice.wav", phrase)


@dataclass
class Exports:
    """The song exported three times, twice all wet and once as the voice with the band: [sample, channel]."""

    rate: int
    voice: Audio
    first: Audio
    again: Audio
    both: Audio


@pytest.fixture(scope="module")
def exports(ardour: Ardour, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    folder, rate = tmp_path_factory.mktemp("ardour"), ardour.phrase.rate
    address = f"unix:{folder}/socket"
    with server_process(address, ["default"]):
        ardour.export(folder / "song", SECONDS * rate, address, first=1.0, again=1.0, both=0.5)
    first, again, both = (
        soundfile.read(folder / "song" / "export" / f"{name}.wav", dtype="float32")[0]
        for name in ("first", "again", "both")
    )
    return Exports(rate, ardour.phrase.audio.T[: SECONDS * rate], first, again, both)


@pytest.fixture(scope="module")
def lonely(ardour: Ardour, tmp_path_factory: pytest.TempPathFactory) -> tuple[Audio, int]:
    """A second of the song, exported while no server runs, and the Status after it."""
    folder = tmp_path_factory.mktemp("lonely")
    status = ardour.export(folder / "song", ardour.phrase.rate, f"unix:{folder}/none", lonely=1.0)
    audio, _ = soundfile.read(folder / "song" / "export" / "lonely.wav", dtype="float32")
    return audio, status["lonely"]


def test_an_export_is_as_long_as_the_song_and_the_band_all_the_way(exports: Exports) -> None:
    """Ardour compensates the latency, so there is none in the file, and nothing before it."""
    assert exports.first.shape == exports.voice.shape
    halves = exports.first.reshape(2 * SECONDS, -1)
    assert (np.sqrt((halves**2).mean(axis=1)) > SILENT).all()


def test_an_export_is_dry_nowhere(exports: Exports) -> None:
    wet, voice = (audio.reshape(-1, PIECE * 2) for audio in (exports.first, exports.voice))
    dry = (np.abs(wet - voice) < ROUNDING).all(axis=1) & (np.abs(voice).max(axis=1) > SILENT)
    assert not dry.any(), f"from {np.flatnonzero(dry)[0] * PIECE / exports.rate:.2f} s on"
    for second, (heard, sung) in enumerate(zip(*_seconds(exports.first, exports.voice), strict=True)):
        assert abs(np.corrcoef(heard, sung)[0, 1]) < LIKENESS, f"second {second}"


def test_the_next_export_is_the_same(exports: Exports) -> None:
    np.testing.assert_array_equal(exports.first, exports.again)


def test_voice_and_band_lie_where_they_belong(exports: Exports) -> None:
    """With both at full level the export is the voice as it was recorded, and the band as it was without the voice."""
    np.testing.assert_allclose(exports.both - exports.first, exports.voice, rtol=0, atol=ROUNDING)


def test_the_band_plays_on_the_sessions_beats(exports: Exports, ardour: Ardour) -> None:
    eighth = 30 / ardour.phrase.transport.tempo
    in_time = onset_f(exports.first.mean(axis=1), exports.rate, np.arange(0, SECONDS, eighth))
    assert in_time >= ON_GRID


def test_an_export_without_a_server_is_the_voice(lonely: tuple[Audio, int], ardour: Ardour) -> None:
    """It does not wait for long, and the voice stays where it was."""
    audio, _ = lonely
    np.testing.assert_array_equal(audio, ardour.phrase.audio.T[: len(audio)])


def test_an_export_without_a_server_has_failed_and_the_status_says_so(lonely: tuple[Audio, int]) -> None:
    _, status = lonely
    assert status == FAILED


def _seconds(*audio: Audio) -> list[Audio]:
    """Each as [second, sample of either channel]."""
    return [samples.reshape(SECONDS, -1) for samples in audio]
