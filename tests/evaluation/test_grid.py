"""The grid: every setting a pack can play and no other, a row for each, and a picture of them."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from backline.corpus.songs import Composer
from backline.evaluation.grid import (
    CHANCE,
    CHUNK,
    MOST,
    PICTURED,
    TRANSPORT,
    VISIBILITY,
    draw_grid,
    evaluate_grid,
    grid_settings,
    setting_name,
)
from backline.evaluation.live import SONG_RATE, Setting, check_setting
from backline.evaluation.plan import Plan
from backline.measures.report import Figure
from backline.models.hafm.load import describe, tiny_random
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.music import fluidsynth
from backline.music.world import NARROW

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


def test_the_grid_holds_every_chunk_from_far_ahead_to_all_heard_with_and_without_transport() -> None:
    spec = describe(tiny_random()[0])
    settings = grid_settings(spec, {"temperature": 0.5})
    for setting in settings:
        check_setting(spec, setting)
        assert setting.parameters == {"temperature": 0.5}
    assert len(set(map(setting_name, settings))) == len(settings)
    for transport in (True, False):
        for chunk in (0.4, 0.8, 1.6, 3.2):
            seen = [
                setting.visibility_seconds
                for setting in settings
                if setting.transport == transport and float(setting.chunk_seconds) == chunk
            ]
            assert min(seen) == -2.0
            assert max(seen) == chunk


def test_chunks_longer_than_a_pack_plays_are_left_out() -> None:
    spec = PassthroughStream(PassthroughConfig(maximum_chunk=Fraction(1))).spec
    assert {setting.chunk_seconds for setting in grid_settings(spec, {})} == {Fraction(2, 5), Fraction(4, 5)}


@pytest.mark.slow
@needs_fluidsynth
def test_every_setting_has_a_row_between_the_true_band_and_a_strangers() -> None:
    settings = [Setting(Fraction(2, 5), -1.0), Setting(Fraction(2, 5), 0.4, transport=False)]
    rows = evaluate_grid(
        PassthroughStream(PassthroughConfig()),
        Plan(Composer(replace(NARROW, bars=4), SONG_RATE), pieces=2),
        settings,
        lambda doing, share: None,
    )
    assert list(rows) == [*map(setting_name, settings), MOST, CHANCE]
    ahead, heard = (rows[setting_name(setting)] for setting in settings)
    assert (ahead[CHUNK].mean, ahead[VISIBILITY].mean, ahead[TRANSPORT].mean) == (0.4, -1.0, 1.0)
    assert heard[TRANSPORT].mean == 0.0
    assert ahead["level (dBFS)"].mean == -120.0  # what a passthrough has not heard is silent
    assert heard["level (dBFS)"].mean > -40.0
    assert rows[MOST]["chord match"].mean > rows[CHANCE]["chord match"].mean


def test_the_picture_shows_all_measures_with_and_without_transport(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    def row(chunk: float, visibility: float, transport: float) -> dict[str, Figure]:
        where = {CHUNK: Figure(chunk), VISIBILITY: Figure(visibility), TRANSPORT: Figure(transport)}
        return where | {measure: Figure(0.5 + visibility / 10, 0.1) for measure in PICTURED}

    rows = {
        f"{chunk} {visibility} {transport}": row(chunk, visibility, transport)
        for chunk in (0.4, 0.8)
        for visibility in (-2.0, 0.4)
        for transport in (0.0, 1.0)
    }
    level = {measure: Figure(0.9) for measure in PICTURED}
    draw_grid({**rows, MOST: level, CHANCE: level}, "a pack", tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
