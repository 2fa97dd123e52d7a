"""The pack that ships, played to by what is no singer: its level stays, and silence is answered by silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backline.evaluation.live import Sound, Take, default_setting, play
from backline.evaluation.robustness import LATEST, sound_after, voices
from backline.measures.level import clip_share, level_dbfs
from backline.models.stream import Stream, Transport
from backline.packs.pack import load_stream, read_pack
from backline.packs.registry import PackRegistry

RATE, SECONDS = 24_000, 6
LOUDEST_DBFS = -6.0  # of any two seconds: a mix of full scale has about -12

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stream() -> Stream:
    return load_stream(read_pack(PackRegistry([]).entry("default").folder))


def answers(stream: Stream, takes: dict[str, Take]) -> dict[str, Sound]:
    return dict(zip(takes, play(stream, list(takes.values()), RATE, default_setting(stream.spec)), strict=True))


def check_level(bands: dict[str, Sound]) -> None:
    for name, band in bands.items():
        assert np.isfinite(band).all(), name
        assert clip_share(band) == 0, name
        assert max(level_dbfs(part) for part in np.split(band, SECONDS // 2)) < LOUDEST_DBFS, name


def test_no_input_makes_it_clip_or_run_away_and_silence_is_answered_by_silence(stream: Stream) -> None:
    time = np.arange(SECONDS * RATE) / RATE
    singing = (np.sin(2 * np.pi * 220 * time) * (0.3 + 0.2 * np.sin(4 * np.pi * time))).astype(np.float32)
    takes = {name: Take(voice, 1) for name, voice in voices(singing, RATE, 1, None).items()}
    broken = np.where(time < 1, singing, np.float32(0))
    takes["a second of singing"] = Take(broken, 1)
    takes["silence, transport playing"] = Take(np.zeros_like(singing), 1, (Transport(0.0, playing=True, tempo=96.0),))
    bands = answers(stream, takes)
    check_level(bands)
    assert sound_after(bands["silence"], RATE, 0) <= LATEST
    assert sound_after(bands["a second of singing"], RATE, 0) > 1
    assert sound_after(bands["a second of singing"], RATE, 1) <= LATEST
    assert level_dbfs(bands["silence, transport playing"]) > -60


def test_recordings_do_not_make_it_clip_or_run_away(stream: Stream, recordings: Path) -> None:
    silence = np.zeros(SECONDS * RATE, np.float32)
    names = sorted(path.name for path in recordings.glob("*.ogg"))
    found = voices(silence, RATE, 1, recordings)
    check_level(answers(stream, {name: Take(found[name], 1) for name in names}))
