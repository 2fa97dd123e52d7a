"""The aligned band, chunk by chunk: what each step hears and when, in which key, and that cuts make no difference.

Two kinds of networks: lively ones, of random weights, and glass ones, in which every codebook shows the token of one
source, so that what a step takes in can be read off what it plays.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backline.models.hafm.aligned.band import AlignedBand
from backline.models.hafm.aligned.config import BAND, BEAT, CHORD, LAG, TINY, VOICE, AlignedConfig, AlignedStageConfig
from backline.models.hafm.aligned.network import AlignedNetwork, aligned, lag_token
from backline.models.hafm.band import Backend, Cue, Sampling, Tokens
from backline.models.hafm.grid import Grid
from backline.models.hafm.listening.hints import HintListener
from backline.models.hafm.listening.leading import ChordLeader
from backline.models.hafm.score import (
    BAND_TURNS,
    VOICE_TURNS,
    VOICE_VOCABULARY,
    pitch_and_colour,
    transposed,
)
from backline.models.hafm.transport import BEAT_STEPS
from backline.models.stream import Transport
from backline.training.beats import beat_table
from tests.support.hafm import lively, random_hints

WINDOW = 48
SMALL = AlignedConfig(**{n: replace(s, window=WINDOW, max_distance=WINDOW) for n, s in TINY.stages().items()})
BOOKS = SMALL.acoustic.codebooks
GREEDY = Sampling(guidance=1.0, temperature=0.0)
SAMPLED = Sampling(guidance=2.0, temperature=0.9, top_k=30)
TRANSPORT = Transport(0.0, playing=True, tempo=100.0)
BACKENDS: tuple[Backend, ...] = ("float32", "torch")
NO_PROFILE = np.zeros(VOICE_VOCABULARY, np.float32)  # every key is as likely
C_MINOR = 12


def voice(frames: int, seed: int = 0) -> Tokens:
    """[1, frame] random tokens, silence among them."""
    return np.random.default_rng(seed).integers(0, VOICE_VOCABULARY, (1, frames))


def cues(
    tokens: Tokens,
    seconds: float,
    chunk: float = 0.4,
    visibility: float = 0.4,
    *,
    row: int = 0,
    key: int | None = 0,
    sampling: Sampling = GREEDY,
    transport: Transport | None = TRANSPORT,
) -> list[Cue]:
    """A session's cues for so many seconds of a voice."""
    grid = Grid.of(chunk, visibility, AlignedBand.lookahead)
    found, heard = [], 0
    for number in range(round(seconds / chunk)):
        stop = grid.source_frames(VOICE, number)
        assert stop <= tokens.shape[1]
        found.append(Cue(row, grid, number, tokens[:, heard:stop], transport, sampling, key))
        heard = stop
    return found


def play(band: AlignedBand, given: Sequence[Cue], seed: int = 1) -> Tokens:
    """[codebook, frame] of all cues of one row."""
    band.reset(given[0].row, seed)
    return np.concatenate([band.play([cue])[0] for cue in given], axis=1)


# ---- networks ----


def make(
    config: AlignedConfig,
    networks: dict[str, AlignedNetwork],
    profile: NDArray[np.float32] = NO_PROFILE,
    backend: Backend = "float32",
    beat_table: NDArray[np.float32] | None = None,
) -> AlignedBand:
    return AlignedBand(config, networks, profile, random_hints(), 3, backend, beat_table)


def lively_band(profile: NDArray[np.float32] = NO_PROFILE, backend: Backend = "float32") -> AlignedBand:
    return make(SMALL, {name: lively(stage) for name, stage in SMALL.stages().items()}, profile, backend)


Shown = tuple[str, int, Callable[[int], int]]  # source, its codebook, and what stands for each of its tokens


def glass(stage: AlignedStageConfig, shown: Sequence[Shown]) -> AlignedNetwork:
    """A network whose likeliest token of codebook k is what `shown[k]` makes of the step's own conditions."""
    network = AlignedNetwork(stage).requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    network.transformer.norm.weight.fill_(1.0)
    start: dict[tuple[str, int], int] = {}
    at = 0
    for source in stage.sources:
        entries = source.vocabulary + 1
        for codebook in range(source.codebooks):
            network.conditions[source.name][codebook, :, at : at + entries] = torch.eye(entries)
            start[source.name, codebook] = at
            at += entries
    for k, (name, codebook, stands) in enumerate(shown):
        tokens = torch.arange(network.conditions[name].shape[1])
        network.heads[k, [stands(int(token)) for token in tokens], start[name, codebook] + tokens] = 20.0
    return network


def glass_stage(stage: AlignedStageConfig, vocabulary: int, delays: tuple[int, ...]) -> AlignedStageConfig:
    width = sum(source.codebooks * (source.vocabulary + 1) for source in stage.sources)
    return replace(
        stage, vocabulary=vocabulary, delays=delays, width=width, layers=1, heads=1, feed_forward=16, window=32
    )


def same(token: int) -> int:
    return token


GLASS_SEMANTIC = glass_stage(replace(TINY.semantic, sources=(VOICE, BEAT, LAG)), BAND.vocabulary, (0,) * BAND.codebooks)
IN_THE_SCORE: list[Shown] = [
    (VOICE.name, 0, lambda pitch: pitch if pitch < 12 else 40 + pitch),
    (VOICE.name, 0, lambda pitch: pitch if pitch < 12 else 40 + pitch),
    (BEAT.name, 0, lambda beat: beat // 4),
    (VOICE.name, 1, same),
    (LAG.name, 0, lambda lag: lag // 4),
]
PITCH_SHOWN, COLOUR_SHOWN, LAG_SHOWN, BEAT_SHOWN = 0, 3, 4, 5  # codebooks of what a glass band plays


def glass_acoustic(delays: tuple[int, ...]) -> tuple[AlignedStageConfig, AlignedNetwork]:
    """Plays the score's five codebooks, and the beat that it hears itself."""
    stage = glass_stage(TINY.acoustic, 256, delays)
    return stage, glass(stage, [*((BAND.name, k, same) for k in range(BAND.codebooks)), (BEAT.name, 0, same)])


def glass_band(delays: tuple[int, ...] = (0,) * 6, beat_table: NDArray[np.float32] | None = None) -> AlignedBand:
    stage, acoustic = glass_acoustic(delays)
    networks = {"semantic": glass(GLASS_SEMANTIC, IN_THE_SCORE), "acoustic": acoustic}
    return make(AlignedConfig(GLASS_SEMANTIC, stage), networks, beat_table=beat_table)


def scoring_band() -> AlignedBand:
    """A lively score, shown as it is."""
    stage, acoustic = glass_acoustic((0,) * 6)
    return make(AlignedConfig(SMALL.semantic, stage), {"semantic": lively(SMALL.semantic), "acoustic": acoustic})


# ---- what is heard, and when ----


@pytest.mark.parametrize(
    ("chunk", "visibility"),
    [(0.4, 0.4), (0.4, 0.2), (0.4, -0.48), (0.8, -1.2), (0.04, -0.12), (0.4, 0.8), (0.08, 0.88)],
)
def test_a_step_hears_the_voice_of_its_own_time_the_lag_earlier(chunk: float, visibility: float) -> None:
    tokens = voice(150)
    lag = Fraction(chunk).limit_denominator(100) - Fraction(visibility).limit_denominator(100)
    codes = play(glass_band(), cues(tokens, 1.6, chunk, visibility))
    assert codes.shape == (6, 120)
    pitch, colour = aligned(pitch_and_colour(tokens), VOICE, 50, 0, 80, lag)[:, np.arange(120) * 50 // 75]
    assert codes[PITCH_SHOWN].tolist() == np.where(pitch < 12, pitch, 40 + pitch).tolist()
    assert codes[COLOUR_SHOWN].tolist() == colour.tolist()
    assert set(codes[LAG_SHOWN].tolist()) == {lag_token(lag) // 4}


@pytest.mark.parametrize(("chunk", "visibility"), [(0.4, 0.4), (0.4, -0.48), (0.08, 0.88), (1.6, 1.0)])
def test_what_is_known_of_the_voice_is_what_training_aligns(chunk: float, visibility: float) -> None:
    """Chunk by chunk, heard in D flat, it is the whole voice in C, put later by the lag; its hints lead the chords."""
    band, tokens = lively_band(), voice(280)
    given = cues(transposed(tokens, VOICE_TURNS, 1), 4.8, chunk, visibility)
    band.reset(0, 1)
    known = [band._known(cue, 1) for cue in given]
    lag = given[0].grid.chunk - given[0].grid.visibility
    heard = tokens[:, : given[-1].grid.source_frames(VOICE, len(given) - 1)]
    found = np.concatenate([part[VOICE.name] for part in known], axis=1)
    np.testing.assert_array_equal(found, aligned(pitch_and_colour(heard), VOICE, 50, 0, 240, lag))
    listener = HintListener(band.hints, keys=(0,))
    listener.hear(heard, TRANSPORT)
    chords = ChordLeader().lead(listener.told(0, 120, 0, lag), 0, TRANSPORT).repeat(2)
    np.testing.assert_array_equal(np.concatenate([part[CHORD.name] for part in known], axis=1)[0], chords)
    assert len(set(chords.tolist())) > 1


def test_every_step_knows_its_own_place_in_the_bar() -> None:
    """At 120 beats a minute a bar of four lasts 2 s; the transport said so at 0.5 s, a beat into it."""
    moving = Transport(at_seconds=0.5, playing=True, tempo=120.0, song_position=1.0)
    codes = play(glass_band(), cues(voice(120), 2.4, 0.4, 0.4, transport=moving))
    frames = np.arange(180) * 50 // 75
    expected = (frames * 192 // 100) % 192  # a bar is 100 frames of 20 ms
    assert codes[BEAT_SHOWN].tolist() == expected.tolist()
    assert codes[2].tolist() == (expected // 4).tolist()  # so does the score


def test_without_a_transport_the_beat_is_that_of_a_standing_host() -> None:
    codes = play(glass_band(), cues(voice(40), 0.8, transport=None))
    assert set(codes[BEAT_SHOWN].tolist()) == {BEAT.vocabulary - 1}


def test_a_host_that_plays_is_believed_and_else_the_voice_is() -> None:
    """Notes on a grid of eighths at 96 beats a minute, in phrases that end in a rest; the host says 100."""
    tempo = 96.0
    eighths = np.arange(64)
    starts = np.round(eighths * 50 * 30 / tempo).astype(int)
    pitches = np.where(eighths % 16 < 12, 12 * 3 + eighths * 5 % 12, VOICE_VOCABULARY - 1)
    tokens = np.repeat(pitches, np.diff([*starts, 1000]))[None]
    table = beat_table([(tokens[0], tempo / 240)])

    def beats(transport: Transport | None) -> Tokens:
        return play(glass_band(beat_table=table), cues(tokens, 16.0, 0.8, 0.8, transport=transport))[BEAT_SHOWN]

    told = Transport(0.0, playing=True, tempo=100.0)
    unaided = play(glass_band(), cues(tokens, 16.0, 0.8, 0.8, transport=told))[BEAT_SHOWN]
    np.testing.assert_array_equal(beats(told), unaided)
    heard = beats(None)[8 * 75 :]
    frames = (np.arange(8 * 75, 16 * 75) * 50 // 75) / 50  # seconds
    late = heard / BEAT_STEPS - frames * tempo / 240
    assert np.abs(late - np.round(late)).max() < 0.07 * tempo / 240
    np.testing.assert_array_equal(beats(replace(told, playing=False))[8 * 75 :], heard)
    for transport, shown in ((None, tempo), (told, None)):  # to displays: what is heard, not what a host says
        band, given = glass_band(beat_table=table), cues(tokens, 16.0, 0.8, 0.8, transport=transport)
        play(band, given)
        beat = band.heard(given[0].row)[-1].transport
        assert (None if beat is None else beat.tempo) == (shown and pytest.approx(shown, abs=2))


@pytest.mark.parametrize(("chunk", "visibility"), [(0.4, -0.4), (0.4, 0.16), (0.2, 0.4)])
def test_playing_ahead_or_behind_it_hears_what_it_may_and_nothing_beyond(chunk: float, visibility: float) -> None:
    """Frame m of the voice belongs to the steps from m / 50 s + lag on: none before knows it, that one does."""
    lag = chunk - visibility
    tokens = voice(120)
    changed = tokens.copy()
    changed[:, 30:] = (changed[:, 30:] + 1) % VOICE_VOCABULARY
    before, after = (play(lively_band(), cues(t, 1.6, chunk, visibility)) for t in (tokens, changed))
    frames = np.arange(before.shape[1])
    first_step = int(np.ceil((30 / 50 + lag) * 75 - 1e-9))
    for codebook, delay in enumerate(SMALL.acoustic.delays):
        unaware = frames + delay < first_step
        np.testing.assert_array_equal(before[codebook, unaware], after[codebook, unaware])
    assert (before[:, first_step : first_step + 6] != after[:, first_step : first_step + 6]).any()


# ---- cuts and company ----


@pytest.mark.parametrize(
    "grids",
    [[(0.4, 0.4), (0.8, 0.8), (0.04, 0.04)], [(0.4, -0.4), (0.8, 0.0)], [(0.2, 0.4), (0.8, 1.0)]],
    ids=["in time", "ahead", "behind"],
)
def test_chunks_of_one_lag_play_the_same(grids: list[tuple[float, float]]) -> None:
    band, tokens = lively_band(), voice(100)
    first, *others = [play(band, cues(tokens, 1.6, *grid, sampling=SAMPLED)) for grid in grids]
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_a_row_plays_the_same_alone_and_in_company() -> None:
    """Other chunks, lags, keys, guidance and seeds in the same calls."""
    band = lively_band()
    sessions = [
        cues(voice(60, 0), 1.2, 0.4, 0.4, row=0, sampling=SAMPLED),
        cues(voice(90, 1), 2.4, 0.8, -0.3, row=1, key=7, sampling=replace(SAMPLED, guidance=1.0, temperature=1.2)),
        cues(voice(60, 2), 0.12, 0.04, 0.0, row=2, key=C_MINOR, sampling=replace(SAMPLED, top_k=5), transport=None),
    ]
    alone = [play(band, given, seed=row) for row, given in enumerate(sessions)]
    for row in range(3):
        band.reset(row, seed=row)
    together: list[list[Tokens]] = [[], [], []]
    for step in zip(*reversed(sessions), strict=True):
        for cue, codes in zip(step, band.play(step), strict=True):
            together[cue.row].append(codes)
    for row in range(3):
        np.testing.assert_array_equal(np.concatenate(together[row], axis=1), alone[row])


def test_the_seed_decides_and_not_the_row() -> None:
    band, tokens = lively_band(), voice(40)
    codes = [play(band, cues(tokens, 0.8, row=row, sampling=SAMPLED), seed) for row, seed in ((0, 1), (2, 1), (0, 2))]
    np.testing.assert_array_equal(codes[0], codes[1])
    assert (codes[0] != codes[2]).any()


def test_torch_and_the_fused_step_play_the_same() -> None:
    given = cues(voice(60), 1.2, 0.4, -0.2, sampling=SAMPLED)
    fused, reference = (play(lively_band(backend=backend), given) for backend in BACKENDS)
    np.testing.assert_array_equal(fused, reference)


@pytest.mark.parametrize("chunk", [0.04, 0.08, 0.4])
def test_frames_wait_for_the_longest_delay_and_none_is_lost_or_doubled(chunk: float) -> None:
    """Chunks of 3 and 6 frames are shorter than the delay of 7: the first ones play nothing yet."""
    delays = (0, 2, 1, 7, 3, 5)
    tokens = voice(80)
    band = glass_band(delays)
    assert band.held_back == 7
    given = cues(tokens, 1.6, chunk, chunk)
    band.reset(0, 1)
    parts = [band.play([cue])[0] for cue in given]
    done = np.cumsum([part.shape[1] for part in parts])
    frames = round(chunk * 75)
    assert done.tolist() == [max(0, frames * number - 7) for number in range(1, len(given) + 1)]
    shown = play(glass_band(), given)  # by step
    for codebook, delay in enumerate(delays):
        expected = shown[codebook, delay : delay + done[-1]]
        assert np.concatenate(parts, axis=1)[codebook].tolist() == expected.tolist()


# ---- keys and guidance ----


@pytest.mark.parametrize(("key", "semitones"), [(7, 7), (11, 11), (C_MINOR, 3), (21, 0)])
def test_a_voice_and_its_key_so_much_higher_make_a_band_so_much_higher(key: int, semitones: int) -> None:
    """The last is A minor, which has the notes of C major."""
    band, tokens = scoring_band(), voice(60)
    in_c = play(band, cues(tokens, 1.2, 0.4, 0.2, key=0, sampling=SAMPLED))
    higher = play(band, cues(transposed(tokens, VOICE_TURNS, semitones), 1.2, 0.4, 0.2, key=key, sampling=SAMPLED))
    np.testing.assert_array_equal(higher[:5], transposed(in_c[:5], BAND_TURNS, semitones))
    np.testing.assert_array_equal(higher[5], in_c[5])
    assert len(np.unique(in_c[0])) > 10


def test_a_key_that_is_heard_is_as_good_as_one_that_is_told() -> None:
    profile = np.zeros(VOICE_VOCABULARY, np.float32)
    profile[0:240:12] = 5.0  # songs in C have nothing but C
    tokens = 12 * np.random.default_rng(0).integers(0, 20, (1, 60)) + 4
    heard, told, other = (
        play(lively_band(profile), cues(tokens, 1.2, key=key, sampling=SAMPLED)) for key in (None, 4, 0)
    )
    np.testing.assert_array_equal(heard, told)
    assert (heard != other).any()


def test_a_new_session_has_not_heard_the_last_ones_key() -> None:
    profile = np.zeros(VOICE_VOCABULARY, np.float32)
    profile[0:240:12] = 5.0
    band = lively_band(profile)
    silence = np.full((1, 40), VOICE_VOCABULARY - 1)
    before = play(band, cues(silence, 0.8, key=None))
    play(band, cues(np.full((1, 40), 4), 0.8, key=None))
    np.testing.assert_array_equal(play(band, cues(silence, 0.8, key=None)), before)


def test_guidance_matters_as_soon_as_a_voice_is_heard_and_not_before() -> None:
    """Without a voice both branches know the same. The first is heard after 0.8 s."""
    band, tokens = lively_band(), voice(60)
    once, guided = (
        play(band, cues(tokens, 1.6, 0.4, -0.4, sampling=replace(SAMPLED, guidance=guidance))) for guidance in (1, 4)
    )
    heard = 60 - band.held_back
    np.testing.assert_array_equal(once[:, :heard], guided[:, :heard])
    assert (once[:, heard:] != guided[:, heard:]).any()


def test_memory_and_time_are_those_of_both_stages() -> None:
    for backend in BACKENDS:
        band = lively_band(backend=backend)
        weights = sum(4 * p.numel() for network in band.networks.values() for p in network.parameters())
        # A row has keys and values of 2 layers and 2 heads of 16 numbers, 3 branches over both stages.
        assert band.resident_bytes() >= weights + 3 * 3 * 2 * 2 * 2 * 16 * WINDOW * 4
    assert band.full_after() == Fraction(WINDOW, 50)
