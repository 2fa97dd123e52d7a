"""Chords, key and chroma are heard as they were played, on synthesised tones and on rendered songs."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.measures.chords import (
    SILENT,
    TRIADS,
    chord_match,
    chords_heard,
    chroma_cosine,
    in_key,
    scale_shares,
    triad_of,
)
from backline.measures.notes import LOWEST, notes_heard
from backline.music import fluidsynth
from backline.music.seeds import HELD_OUT_SEED
from backline.music.songs import Song, song
from backline.music.theory import QUALITIES, Chord, Key
from backline.music.world import NARROW

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))

RATE = 24_000
C_MAJOR = Key(0, "major")
A_MINOR = Key(9, "minor")
EMPTY = np.zeros(0, np.float32)


def tone(pitch: int, seconds: float, rate: int = RATE) -> NDArray[np.float32]:
    """Six partials at a third of the amplitude before, dying away as strings do."""
    time = np.arange(round(seconds * rate)) / rate
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    partials = [3.0**-number * np.sin(2 * np.pi * hertz * (number + 1) * time) for number in range(6)]
    return (0.1 * np.exp(-time) * np.sum(partials, axis=0)).astype(np.float32)


def play(chords: list[Chord], seconds: float = 0.6, rate: int = RATE, up: int = 0) -> NDArray[np.float32]:
    """Each chord for as long, in close position from C4 on, over its root in the bass; `up` in semitones."""
    return np.concatenate(
        [
            np.sum([tone(60 + pitch + up, seconds, rate) for pitch in chord.pitch_classes], axis=0)
            + tone(36 + chord.root + up, seconds, rate)
            for chord in chords
        ]
    ).astype(np.float32)


def beats(count: int, seconds: float = 0.6) -> list[tuple[float, float]]:
    return [(beat * seconds, (beat + 1) * seconds) for beat in range(count)]


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE), dtype=np.float32)


def progression(length: int, seed: int) -> list[Chord]:
    """Triads on degrees of C major, drawn evenly."""
    return [C_MAJOR.chord(int(degree)) for degree in np.random.default_rng(seed).integers(0, 6, length)]


# ---- notes ----


@pytest.mark.parametrize("pitch", [36, 45, 57, 64, 76, 88])
def test_a_tone_is_heard_as_its_note_and_not_as_its_partials(pitch: int) -> None:
    heard = notes_heard(tone(pitch, 0.6), RATE, [(0.0, 0.6)])[0]
    assert heard.argmax() == pitch - LOWEST
    assert np.square(heard[pitch - LOWEST]) > 0.8 * np.square(heard).sum()


# ---- chords ----


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_every_triad_is_heard_as_itself_at_every_rate(rate: int) -> None:
    indices = [triad.index for triad in TRIADS]
    heard = chords_heard(play(list(TRIADS), rate=rate), rate, beats(len(TRIADS)))
    np.testing.assert_array_equal(heard, indices)


def test_an_inversion_keeps_its_root() -> None:
    e_in_the_bass = np.sum([tone(pitch, 0.6) for pitch in (40, 60, 64, 67)], axis=0).astype(np.float32)
    assert list(chords_heard(e_in_the_bass, RATE, [(0.0, 0.6)])) == [Chord(0, "maj").index]


def test_a_beat_with_one_note_of_a_chord_belongs_to_the_chord_around_it() -> None:
    minor = play([Chord(9, "min")])
    only_the_root = tone(45, 0.6)
    heard = chords_heard(np.concatenate([minor, only_the_root, minor]), RATE, beats(3))
    assert list(heard) == [Chord(9, "min").index] * 3


def test_silence_is_no_chord_and_does_not_hide_its_neighbours() -> None:
    c, f = Chord(0, "maj"), Chord(5, "maj")
    audio = np.concatenate([play([c]), np.zeros(round(1.2 * RATE), np.float32), play([f])])
    spans = [(0.0, 0.6), (0.8, 1.6), (1.8, 2.4), (2.4, 3.0)]  # the last lies after the end
    assert list(chords_heard(audio, RATE, spans)) == [c.index, SILENT, f.index, SILENT]


def test_a_seventh_counts_as_its_triad() -> None:
    chords = [Chord(root, quality) for quality in QUALITIES for root in range(12)]
    reduced = triad_of(np.array([chord.index for chord in chords]))
    for chord, index in zip(chords, reduced, strict=True):
        triad = next(each for each in TRIADS if each.index == index)
        assert triad.pitch_classes == chord.pitch_classes[:3]
    played = [Chord(0, "maj7"), Chord(2, "min7"), Chord(7, "7")]
    assert chord_match(play(played), RATE, [chord.index for chord in played], beats(3)) == 1.0


def test_chord_match_is_the_share_of_right_spans() -> None:
    audio = play([Chord(0, "maj"), Chord(5, "maj"), Chord(9, "min"), Chord(7, "maj")], seconds=1.2)
    labels = [Chord(0, "maj"), Chord(5, "min"), Chord(9, "min"), Chord(2, "min")]  # right, wrong third, right, wrong
    of_beats = [chord.index for chord in labels for _ in range(2)]
    assert chord_match(audio, RATE, of_beats, beats(8)) == 0.5


def test_chord_match_of_silence_and_of_nothing_is_none() -> None:
    labels = [Chord(0, "maj").index] * 4
    for audio in (EMPTY, np.zeros(1, np.float32), np.ones(1, np.float32), np.zeros(3 * RATE, np.float32)):
        assert chord_match(audio, RATE, labels, beats(4)) == 0.0
    assert chord_match(play([Chord(0, "maj")]), RATE, [], []) == 0.0


def test_chords_that_do_not_fit_the_spans_are_refused() -> None:
    with pytest.raises(ValueError, match="3 chords for 4 spans"):
        chord_match(EMPTY, RATE, [0, 0, 0], beats(4))


@needs_fluidsynth
@pytest.mark.slow
def test_held_out_songs_are_heard_as_labelled() -> None:
    matches, on_scale, others = [], [], []
    songs = [song(HELD_OUT_SEED + 100 + number, NARROW) for number in range(12)]
    for each, other in zip(songs, [*songs[1:], songs[0]], strict=True):
        matches.append(chord_match(each.accompaniment, each.sample_rate, labels(each), spans_of(each)))
        others.append(chord_match(other.accompaniment, other.sample_rate, labels(each), spans_of(each)))
        on_scale.append(in_key(each.accompaniment, each.sample_rate, each.piece.key))
    assert np.mean(matches) > 0.93
    assert np.mean(others) < 0.4
    assert np.mean(on_scale) > 0.93


def labels(each: Song) -> list[int]:
    return [chord.index for chord in each.chords]


def spans_of(each: Song) -> list[tuple[float, float]]:
    return [(begin, begin + each.piece.seconds_per_beat) for begin in each.beat_seconds]


# ---- key ----


def test_a_scale_lies_in_its_key_and_a_semitone_above_mostly_outside() -> None:
    scale = np.concatenate([tone(60 + pitch, 0.5) for pitch in (0, 2, 4, 5, 7, 9, 11, 12)])
    assert in_key(scale, RATE, C_MAJOR) > 0.95
    assert in_key(scale, RATE, Key(9, "minor")) > 0.95  # the relative has the same notes
    # D flat major holds C and F of these eight, both Cs and the F: three of eight.
    assert in_key(scale, RATE, Key(1, "major")) == pytest.approx(3 / 8, abs=0.06)


def test_the_leading_note_belongs_to_a_minor_key_and_not_beside_the_natural_seventh() -> None:
    dominant = play([A_MINOR.chord(4)], seconds=2.0)
    assert in_key(dominant, RATE, A_MINOR) > 0.95
    both = tone(67, 2.0) + tone(68, 2.0)
    assert in_key(both, RATE, A_MINOR) == pytest.approx(0.5, abs=0.06)


def test_noise_lies_in_a_key_by_chance_only() -> None:
    shares = [in_key(noise(5.0, seed), RATE, Key(seed % 12, "major")) for seed in range(4)]
    assert np.mean(shares) == pytest.approx(7 / 12, abs=0.08)


def test_nothing_lies_in_no_key() -> None:
    for audio in (EMPTY, np.ones(1, np.float32), np.zeros(5 * RATE, np.float32)):
        assert in_key(audio, RATE, C_MAJOR) == 0.0


# ---- chroma ----


def test_a_recording_agrees_with_itself_also_when_louder_or_an_octave_up() -> None:
    chords = progression(20, 1)
    audio = play(chords)
    assert chroma_cosine(audio, audio, RATE) == pytest.approx(1.0)
    assert chroma_cosine(2 * audio, audio, RATE) == pytest.approx(1.0, abs=1e-3)
    assert chroma_cosine(play(chords, up=12), audio, RATE) > 0.9


@pytest.mark.slow
def test_unrelated_chords_of_one_key_and_noise_agree_in_nothing() -> None:
    pieces = [play(progression(24, seed)) for seed in range(4)]
    unrelated = [chroma_cosine(piece, other, RATE) for piece, other in pairwise(pieces)]
    assert abs(np.mean(unrelated)) < 0.2
    assert abs(chroma_cosine(noise(15.0), pieces[0], RATE)) < 0.15


def test_a_transposed_copy_does_not_agree() -> None:
    chords = progression(20, 4)
    assert chroma_cosine(play(chords, up=1), play(chords), RATE) < 0.1


def test_half_a_recording_right_is_half_the_agreement() -> None:
    wanted = play(progression(24, 5))
    half = wanted.copy()
    half[len(half) // 2 :] = 0
    assert chroma_cosine(half, wanted, RATE) == pytest.approx(0.5, abs=0.07)


def test_the_longer_recording_is_cut_and_nothing_agrees_with_nothing() -> None:
    audio = play(progression(10, 6))
    assert chroma_cosine(audio, audio[: 4 * RATE], RATE) == pytest.approx(1.0)
    for short in (EMPTY, np.ones(1, np.float32), np.zeros(5 * RATE, np.float32)):
        assert chroma_cosine(short, audio, RATE) == 0.0
        assert chroma_cosine(audio, short, RATE) == 0.0


def test_the_scale_is_heard_that_was_played_on_and_any_sound_has_as_much_of_all_scales() -> None:
    for up in (0, 5):
        heard = scale_shares(play(progression(8, seed=1), up=up), RATE)
        assert heard.argmax() == up
        assert heard[up] > 0.9
        assert heard.mean() == pytest.approx(7 / 12)
    np.testing.assert_array_equal(scale_shares(np.zeros(2 * RATE, np.float32), RATE), 0)
