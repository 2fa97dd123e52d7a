"""The bundled phrase is what its command makes, and is what a demo needs."""

import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import soundfile

from backline.music.phrase import SAMPLE_RATE, SEED, in_a_small_room, main
from backline.music.seeds import HELD_OUT_SEED
from backline.music.world import NARROW

BUNDLED = Path(str(files("backline.music"))) / "data"


def test_the_bundled_phrase_is_what_its_command_makes(tmp_path: Path) -> None:
    main(tmp_path)
    assert (tmp_path / "phrase.toml").read_text() == (BUNDLED / "phrase.toml").read_text()
    made, _ = soundfile.read(tmp_path / "phrase.flac")
    bundled, _ = soundfile.read(BUNDLED / "phrase.flac")
    np.testing.assert_allclose(made, bundled, atol=2e-3)  # another machine rounds otherwise


def test_it_is_20_seconds_of_unclipped_stereo_at_48_khz_from_a_held_out_seed() -> None:
    sound, sample_rate = soundfile.read(BUNDLED / "phrase.flac")
    facts = tomllib.loads((BUNDLED / "phrase.toml").read_text())
    assert SEED >= HELD_OUT_SEED
    assert sample_rate == SAMPLE_RATE
    assert 20 <= len(sound) / sample_rate <= 25
    assert round(len(sound) / sample_rate * facts["tempo"] / 60, 3) == facts["bars"] * facts["numerator"]
    assert NARROW.tempi[0] <= facts["tempo"] <= NARROW.tempi[1]
    assert 0.5 < np.abs(sound).max() < 0.75
    assert 0.9 < np.corrcoef(sound.T)[0, 1] < 0.999
    assert (BUNDLED / "phrase.flac").stat().st_size < 2_000_000


def test_reflections_come_after_the_direct_sound_and_differ_by_side() -> None:
    impulse = np.zeros(4800, np.float32)
    impulse[0] = 1
    left, right = in_a_small_room(impulse, SAMPLE_RATE)
    assert left[0] == right[0] == 1
    assert not left[1 : int(0.009 * SAMPLE_RATE)].any()
    assert set(np.flatnonzero(left[1:])).isdisjoint(np.flatnonzero(right[1:]))
