"""The few functions of libfluidsynth that rendering needs, bound with ctypes, and where its sound font lies."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_void_p
from ctypes.util import find_library
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK = 64  # samples; FluidSynth starts and ends notes only on these boundaries
SOUND_FONTS = (
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/sounds/sf2/default-GM.sf2",
    "/usr/share/soundfonts/FluidR3_GM.sf2",
    "/usr/share/soundfonts/default.sf2",
    "/opt/homebrew/share/soundfonts/default.sf2",
)
REMEDY = "install Debian's packages libfluidsynth3 and fluid-soundfont-gm, or name a sound font in BACKLINE_SOUNDFONT"
VOICES = 192  # enough that none is stolen
_DRUMS = 1  # CHANNEL_TYPE_DRUM
_DRUM_BANK = 128
_SIGNATURES = {
    "new_fluid_settings": (c_void_p, []),
    "fluid_settings_setint": (c_int, [c_void_p, c_char_p, c_int]),
    "fluid_settings_setnum": (c_int, [c_void_p, c_char_p, c_double]),
    "delete_fluid_settings": (None, [c_void_p]),
    "new_fluid_synth": (c_void_p, [c_void_p]),
    "delete_fluid_synth": (None, [c_void_p]),
    "fluid_synth_sfload": (c_int, [c_void_p, c_char_p, c_int]),
    "fluid_synth_set_channel_type": (c_int, [c_void_p, c_int, c_int]),
    "fluid_synth_program_select": (c_int, [c_void_p, c_int, c_int, c_int, c_int]),
    "fluid_synth_noteon": (c_int, [c_void_p, c_int, c_int, c_int]),
    "fluid_synth_noteoff": (c_int, [c_void_p, c_int, c_int]),
    "fluid_synth_all_sounds_off": (c_int, [c_void_p, c_int]),
    "fluid_synth_get_active_voice_count": (c_int, [c_void_p]),
    "fluid_synth_process": (c_int, [c_void_p, c_int, c_int, c_void_p, c_int, POINTER(POINTER(c_float))]),
}


class FluidSynthMissing(RuntimeError):
    """FluidSynth or its sound font is not installed."""


def sound_font() -> Path:
    """The General MIDI sound font to play.

    Raises:
        FluidSynthMissing: there is none.
    """
    chosen = os.environ.get("BACKLINE_SOUNDFONT")
    places = (chosen,) if chosen else SOUND_FONTS
    for place in places:
        if Path(place).is_file():
            return Path(place)
    raise FluidSynthMissing(f"no sound font at {', '.join(places)}: {REMEDY}")


def missing() -> str | None:
    """Why nothing can be rendered here; None if it can."""
    try:
        _library()
        sound_font()
    except FluidSynthMissing as error:
        return str(error)
    return None


class Synth:
    """A synthesizer with one output per MIDI channel; channel 0 is a drum kit. Dry: no reverb, no chorus.

    One thread at a time may use it. What is rendered after `settle` depends on nothing before it.
    """

    def __init__(self, channels: int, sample_rate: int, font: Path | None = None, drum_bank: int = _DRUM_BANK) -> None:
        """`font` None is `sound_font()`; a font that has a kit as its only programme has it in drum bank 0."""
        self._library = _library()
        self._channels = channels
        self._settings = self._library.new_fluid_settings()
        integers = {
            "synth.audio-channels": channels,
            "synth.audio-groups": channels,
            "synth.midi-channels": 16,
            "synth.reverb.active": 0,
            "synth.chorus.active": 0,
            "synth.cpu-cores": 1,
            "synth.polyphony": VOICES,
            "synth.dynamic-sample-loading": 1,
        }
        for name, value in integers.items():
            self._library.fluid_settings_setint(self._settings, name.encode(), value)
        for name, level in {"synth.sample-rate": float(sample_rate), "synth.gain": 0.5}.items():
            self._library.fluid_settings_setnum(self._settings, name.encode(), level)
        self._synth = self._library.new_fluid_synth(self._settings)
        self._font_path = font = font or sound_font()
        self._drum_bank = drum_bank
        self._font = self._library.fluid_synth_sfload(self._synth, str(font).encode(), 0)
        if self._font < 0:
            self.close()
            raise FluidSynthMissing(f"{font} cannot be read as a sound font: {REMEDY}")
        self._library.fluid_synth_set_channel_type(self._synth, 0, _DRUMS)
        self._programmes: dict[int, int] = {}

    def close(self) -> None:
        """Frees what the library holds; the synthesizer is of no use afterwards."""
        self._library.delete_fluid_synth(self._synth)
        self._library.delete_fluid_settings(self._settings)

    def select(self, channel: int, programme: int) -> None:
        """Gives a channel its instrument; the same one again costs nothing."""
        if self._programmes.get(channel) == programme:
            return
        bank = self._drum_bank if channel == 0 else 0
        if self._library.fluid_synth_program_select(self._synth, channel, self._font, bank, programme) != 0:
            raise FluidSynthMissing(f"{self._font_path} has no programme {programme} in bank {bank}: {REMEDY}")
        self._programmes[channel] = programme

    def note_on(self, channel: int, pitch: int, velocity: int) -> None:
        self._library.fluid_synth_noteon(self._synth, channel, pitch, velocity)

    def note_off(self, channel: int, pitch: int) -> None:
        self._library.fluid_synth_noteoff(self._synth, channel, pitch)

    def settle(self) -> None:
        """Ends every note at once and brings the synthesizer into a state that no earlier note has a part in.

        A voice keeps the output gain of its last note and slides from there to its next one's, so every voice is given
        the same last note. What is left sounding, even inaudible, would change the order in which voices are summed.
        """
        self._silence()
        pitch = 0
        while self._library.fluid_synth_get_active_voice_count(self._synth) < VOICES:
            self.note_on(1, pitch % 128, 1)
            pitch += 1
        self._silence()

    def _silence(self) -> None:
        scratch = np.zeros((2 * self._channels, BLOCK), dtype=np.float32)
        self.process(scratch, 0, BLOCK)
        for channel in range(self._channels):
            self._library.fluid_synth_all_sounds_off(self._synth, channel)
        while self._library.fluid_synth_get_active_voice_count(self._synth):
            self.process(scratch, 0, BLOCK)
        self.process(scratch, 0, BLOCK)

    def process(self, out: NDArray[np.float32], start: int, count: int) -> None:
        """Adds `count` samples, a multiple of BLOCK, to out[:, start : start + count].

        Args:
            out: [2 * channels, sample], contiguous: left and right of channel 0, of channel 1, ...
        """
        rows = (POINTER(c_float) * len(out))()
        for row in range(len(out)):
            rows[row] = ctypes.cast(out.ctypes.data + row * out.strides[0] + 4 * start, POINTER(c_float))
        self._library.fluid_synth_process(self._synth, count, 0, None, len(out), rows)


@cache
def _library() -> ctypes.CDLL:
    path = find_library("fluidsynth")
    if path is None:
        raise FluidSynthMissing(f"libfluidsynth is not installed: {REMEDY}")
    library = ctypes.CDLL(path)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library
