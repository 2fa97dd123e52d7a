"""The rendered band plays what is written, where it is written, and the labels are true."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.music import fluidsynth
from backline.music.composer import compose
from backline.music.fluidsynth import BLOCK, FluidSynthMissing
from backline.music.piece import ChordSpan, Note
from backline.music.render import CEILING, events, render
from backline.music.songs import Song, song
from backline.music.theory import QUALITIES, Chord
from backline.music.world import NARROW, PARTS, WIDE

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


@pytest.fixture(scope="module")
def songs() -> list[Song]:
    return [song(seed) for seed in range(4)]


@needs_fluidsynth
def test_equal_pieces_sound_equal_whatever_was_rendered_before() -> None:
    piece = compose(1)
    first = render(piece)
    render(compose(2, WIDE))
    again = render(piece)
    for part in PARTS:
        np.testing.assert_array_equal(first.parts[part], again.parts[part])


@needs_fluidsynth
@pytest.mark.parametrize("sample_rate", [24_000, 48_000])
def test_stems_are_as_long_as_the_piece_and_add_up(sample_rate: int) -> None:
    piece = compose(3)
    stems = render(piece, sample_rate)
    assert len(stems.accompaniment) == piece.samples(sample_rate)
    np.testing.assert_allclose(np.sum(list(stems.parts.values()), axis=0), stems.accompaniment, atol=1e-6)
    for part in PARTS:
        assert stems.parts[part].dtype == np.float32
        loud = np.sqrt(np.mean(stems.parts[part] ** 2))
        assert loud == 0 if part == "pad" else loud > 0.01  # nobody plays the pad in the narrow world


@needs_fluidsynth
def test_nothing_clips_in_the_wide_world() -> None:
    for seed, style in enumerate(("pop", "rock", "swing", "house", "folk", "five")):
        each = song(seed, replace(WIDE, styles=(style,), forms=("short",)))
        assert np.abs(each.accompaniment).max() <= CEILING + 1e-6
        assert np.abs(each.mix).max() <= 0.951
        assert np.isfinite(each.mix).all()


@needs_fluidsynth
def test_chords_are_heard_as_labelled(songs: list[Song]) -> None:
    right = [best_triad(chroma(each, span)) == triad(span.chord) for each in songs for span in each.piece.chords]
    assert np.mean(right) > 0.9


@needs_fluidsynth
def test_drums_are_heard_where_they_are_written(songs: list[Song]) -> None:
    found, true = [], []
    for each in songs:
        hits = [(sample / each.sample_rate, hit) for sample, _, channel, _, hit in events(each.piece) if channel == 0]
        struck = np.array(sorted({time for time, velocity in hits if velocity}))
        heard = onsets(each.stems["drums"], each.sample_rate)
        found += [np.abs(heard - time).min() < 0.012 for time in {time for time, velocity in hits if velocity > 70}]
        true += [np.abs(struck - time).min() < 0.012 for time in heard]
    assert np.mean(found) > 0.85
    assert np.mean(true) > 0.9  # chance is 0.16


@pytest.mark.parametrize("sample_rate", [24_000, 48_000])
def test_events_lie_on_the_onset_grid_no_further_from_the_score_than_half_of_it(sample_rate: int) -> None:
    piece = compose(7, NARROW)
    assert piece.onset_grid == Fraction(1, 75)
    starts = [sample for sample, order, *_ in events(piece, sample_rate) if order == 1]
    assert all((sample / (sample_rate * Fraction(1, 75))).denominator == 1 for sample in starts)
    written = sorted(note.start * piece.seconds_per_beat for part in piece.parts.values() for note in part)
    assert np.abs(np.array(starts) / sample_rate - written).max() <= 0.5 / 75 + 1e-9


@needs_fluidsynth
def test_equal_notes_that_start_on_codec_frames_give_equal_samples() -> None:
    piece = compose(7, NARROW)
    chord = tuple(Note(start, 1.0, pitch, 84) for start in (0.0, 4.3) for pitch in (60, 64, 67))
    silent = dict.fromkeys(PARTS, ())
    stem = render(replace(piece, parts={**silent, "comp": chord})).parts["comp"]
    later = round(4.3 * piece.seconds_per_beat * 75) * 320
    # A voice slides from the gain of its last note to its next one's within a block: equal from the second block on.
    first, again = stem[BLOCK:12_000], stem[later + BLOCK : later + 12_000]
    np.testing.assert_allclose(first, again, atol=1e-6)
    np.testing.assert_allclose(stem[:BLOCK], stem[later : later + BLOCK], atol=0.005)
    assert np.abs(first).max() > 0.05


@needs_fluidsynth
def test_labels_per_frame_agree_with_those_per_beat(songs: list[Song]) -> None:
    for each in songs:
        frames = each.chord_at(50)
        beats = each.beat_at(50)
        assert len(frames) == len(beats) == int(each.piece.seconds * 50)
        for beat, second in enumerate(each.beat_seconds):
            frame = int(np.ceil(second * 50 - 0.5 + 1e-9))
            assert frames[frame] == each.chords[beat].index
            assert int(beats[frame]) == beat


def test_a_missing_sound_font_is_named_with_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_SOUNDFONT", "/nowhere/band.sf2")
    with pytest.raises(FluidSynthMissing, match=r"/nowhere/band.sf2.*fluid-soundfont-gm"):
        fluidsynth.sound_font()


def triad(chord: Chord) -> tuple[int, ...]:
    return tuple(sorted(chord.pitch_classes[:3]))


def chroma(each: Song, span: ChordSpan) -> NDArray[np.float64]:
    """Energy per pitch class [12] during a chord, of bass, comping and pad, from a plain Fourier transform."""
    begin, end = (
        int(beat * each.piece.seconds_per_beat * each.sample_rate) for beat in (span.start, span.start + span.length)
    )
    tonal = each.stems["bass"] + each.stems["comp"] + each.stems["pad"]
    frame = tonal[begin:end]
    magnitude = np.abs(np.fft.rfft(frame * np.hanning(len(frame)), 4 * len(frame)))
    hertz = np.fft.rfftfreq(4 * len(frame), 1 / each.sample_rate)
    use = (hertz > 60) & (hertz < 1200)
    classes = np.round(69 + 12 * np.log2(hertz[use] / 440)).astype(int) % 12
    return np.bincount(classes, magnitude[use], 12).astype(np.float64)


def best_triad(chroma: NDArray[np.float64]) -> tuple[int, ...]:
    triads = [Chord(root, quality) for root in range(12) for quality in QUALITIES if len(QUALITIES[quality]) == 3]
    return triad(max(triads, key=lambda chord: sum(chroma[pitch] for pitch in chord.pitch_classes)))


def onsets(sound: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Times at which the treble of 4 ms frames rises above all of the 12 ms before."""
    hop = sample_rate // 250
    treble = np.diff(sound, 2, prepend=[0, 0])
    level = np.log(np.square(treble[: len(sound) // hop * hop]).reshape(-1, hop).mean(1) + 1e-8)
    before = np.max([np.roll(level, shift) for shift in (1, 2, 3)], axis=0)
    rising = level - before > 0.8
    rising[:4] = [level[0] > -16, False, False, False]
    starts = rising & ~np.roll(rising, 1)
    return np.flatnonzero(starts) * hop / sample_rate
