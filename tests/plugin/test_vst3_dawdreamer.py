"""DawDreamer renders the .vst3 in a graph: a JUCE host that leaves the reported latency in its output."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plugin.vst3 import Audio, factor, noise

dawdreamer = pytest.importorskip("dawdreamer", reason="DawDreamer is not installed: pip install -e '.[dev]'")

BUDGET, GAIN = 0.25, -6.0  # seconds, dB


class Song:
    """One plugin behind one recording."""

    def __init__(self, bundle: Path, rate: int, block: int, audio: Audio) -> None:
        self.rate, self.audio = rate, audio
        self.engine = dawdreamer.RenderEngine(rate, block)
        player = self.engine.make_playback_processor("recording", audio)
        self.plugin: Any = self.engine.make_plugin_processor("backline", str(bundle))
        parameters = {entry["name"]: entry for entry in self.plugin.get_parameters_description()}
        self.index = {name: entry["index"] for name, entry in parameters.items()}
        self.packs = parameters["Pack"]["numSteps"]
        self.set("Pack", 1 / (self.packs - 1))
        self.set("Dry/Wet", 1.0)
        self.set("Gain", (GAIN + 60.0) / 72.0)
        self.set("Latency budget", BUDGET / 10.0)
        self.engine.load_graph([(player, []), (self.plugin, ["recording"])])

    def set(self, name: str, value: float) -> None:
        self.plugin.set_parameter(self.index[name], value)

    def text(self, name: str) -> str:
        return str(self.plugin.get_parameter_text(self.index[name]))

    def render(self) -> Audio:
        """As long as the recording."""
        self.engine.render(self.audio.shape[1] / self.rate)
        heard: Audio = self.engine.get_audio()
        return heard[:, : self.audio.shape[1]]

    def expected(self) -> Audio:
        """The recording at the reported latency."""
        latency = self.plugin.get_latency_samples()
        late = np.zeros_like(self.audio)
        late[:, latency:] = factor(GAIN) * self.audio[:, : self.audio.shape[1] - latency]
        return late


@pytest.mark.parametrize(("rate", "block"), [(44_100, 64), (44_100, 441), (48_000, 512), (48_000, 2048), (96_000, 512)])
def test_a_render_is_the_input_at_the_reported_latency_bit_for_bit(
    vst3_bundle: Path, served: str, rate: int, block: int
) -> None:
    song = Song(vst3_bundle, rate, block, noise(rate))
    assert (song.text("Pack"), song.text("Gain")) == ("passthrough", "-6.0")
    heard = song.render()
    assert song.plugin.get_latency_samples() == round(BUDGET * rate)
    np.testing.assert_array_equal(heard, song.expected())
    assert song.text("Status").startswith("playing")


def test_notes_are_taken_and_do_not_disturb_the_audio(vst3_bundle: Path, served: str) -> None:
    song = Song(vst3_bundle, 48_000, 512, noise(48_000))
    for step in range(8):
        song.plugin.add_midi_note(60 + step, 100, step / 10, 0.05)
    np.testing.assert_array_equal(song.render(), song.expected())


def test_automation_is_heard_from_its_block_on(vst3_bundle: Path, served: str) -> None:
    """JUCE gives automation of a render once a block, so the change comes with a block's first sample."""
    block, change = 512, 40 * 512
    song = Song(vst3_bundle, 48_000, block, noise(48_000))
    gains = np.full(48_000, (GAIN + 60.0) / 72.0, np.float32)
    gains[change:] = 0.0  # silence
    song.plugin.set_automation(song.index["Gain"], gains)
    heard, expected = song.render(), song.expected()
    np.testing.assert_array_equal(heard[:, :change], expected[:, :change])
    assert np.any(heard[:, change + block : change + 2 * block] != expected[:, change + block : change + 2 * block])
    assert not heard[:, change + 4800 :].any()


def test_a_project_is_saved_but_loading_one_wants_an_editor(vst3_bundle: Path, served: str, tmp_path: Path) -> None:
    """DawDreamer loads a state by way of the plugin's editor window; the other hosts' tests load what they saved."""
    song = Song(vst3_bundle, 48_000, 512, noise(4800))
    song.plugin.save_state(str(tmp_path / "state"))
    assert (tmp_path / "state").stat().st_size > 0
    with pytest.raises(RuntimeError, match="no available editor"):
        song.plugin.load_state(str(tmp_path / "state"))
