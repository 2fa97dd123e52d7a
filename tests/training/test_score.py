"""The score's tokens are what one writes down by hand, in every key alike."""

from dataclasses import replace

import numpy as np
import pytest

from backline.models.hafm.score import (
    ATTACK_EARLY,
    ATTACK_LATE,
    BAND_TURNS,
    BASS_SILENT,
    BROKEN_FROM,
    BROKEN_VOICES,
    COMPING_HELD,
    COMPING_REST,
    COMPING_STRUCK,
    VOCABULARY,
    Tokens,
    transposed,
)
from backline.music.composer import compose
from backline.music.piece import ChordSpan, Note, Piece
from backline.music.theory import Chord, Key, Metre
from backline.music.world import CODEC_FRAME, MEZZO, PARTS, TRIO, Band
from backline.training.score import score_tokens

# At 100 beats a minute a beat is 45 codec frames and 30 frames of the score: two of these for three of those.
CODEC_FRAMES_PER_BEAT = 45
C, F, G = Chord(0, "maj"), Chord(5, "maj"), Chord(7, "maj")


def note(start: float, length: float, pitch: int) -> Note:
    """Times in codec frames."""
    return Note(start / CODEC_FRAMES_PER_BEAT, length / CODEC_FRAMES_PER_BEAT, pitch, 90)


def score(frames: int, *chords: tuple[float, Chord], **parts: list[Note]) -> Tokens:
    """The score of a bar: chords (first codec frame, chord), C where none is given, and parts by their names."""
    chords = chords or ((0, C),)
    starts = [start / CODEC_FRAMES_PER_BEAT for start, _ in chords]
    ends = [*starts[1:], 4.0]
    spans = tuple(ChordSpan(a, b - a, chord) for a, b, (_, chord) in zip(starts, ends, chords, strict=True))
    band = {part: tuple(parts.get(part, ())) for part in PARTS}
    piece = Piece(
        0, Key(0, "major"), 100.0, Metre(4), 1, Band(pad=None), MEZZO, (), spans, (), band, onset_grid=CODEC_FRAME
    )
    return score_tokens(piece, frames)


def test_an_empty_bar_holds_its_chord_and_rests() -> None:
    tokens = score(3, (0, G))
    assert tokens.tolist() == [[7] * 3, [BASS_SILENT] * 3, [COMPING_REST] * 3, [0] * 3, [0] * 3]


@pytest.mark.parametrize(
    ("chord", "token"),
    [
        (C, 0),
        (Chord(9, "min"), 9 + 12),
        (Chord(11, "dim"), 11 + 24),
        (Chord(7, "7"), 7),
        (Chord(5, "maj7"), 5),
        (Chord(2, "min7"), 2 + 12),
        (Chord(11, "hdim7"), 11 + 24),
    ],
    ids=lambda value: value.name if isinstance(value, Chord) else str(value),
)
def test_chords_are_their_triads(chord: Chord, token: int) -> None:
    assert score(1, (0, chord))[0].tolist() == [token]


def test_a_chord_changes_where_its_first_note_is_struck() -> None:
    # 2.6 codec frames, 35 ms, lie in the second frame; but notes begin on codec frames, this one with the third frame.
    tokens = score(5, (0, C), (2.6, F), bass=[note(0, 2.6, 36), note(2.6, 6, 41)])
    assert tokens[0].tolist() == [0, 0, 5, 5, 5]
    assert tokens[1].tolist() == [12 + 0, 0, 12 + 5, 5, 5]


def test_the_bass_is_struck_then_held_then_silent() -> None:
    line = [
        note(0, 9, 36),
        note(15, 10, 26),  # ends within the frame that is its last
        note(30, 6, 40),
        note(36, 3, 40),  # the same pitch struck again
    ]
    silent = [BASS_SILENT]
    first, second = [12 + 0, *[0] * 5, *silent * 4], [12 + 2, *[2] * 6, *silent * 3]
    assert score(30, bass=line)[1].tolist() == [*first, *second, 12 + 4, 4, 4, 4, 12 + 4, 4, *silent * 4]


def test_a_chord_struck_at_once_is_one_token_struck_then_held() -> None:
    chord = [note(start, 6, pitch) for start in (0, 9) for pitch in (60, 64, 67)]
    struck = [COMPING_STRUCK, *[COMPING_HELD] * 3]
    assert score(12, comp=chord)[2].tolist() == [*struck, *[COMPING_REST] * 2, *struck, *[COMPING_REST] * 2]


def test_a_broken_chord_tells_which_of_its_voices_sounds() -> None:
    in_c = [note(9 * n, 9, pitch) for n, pitch in enumerate((60, 64, 67, 64))]
    in_f = [note(36 + 9 * n, 9, pitch) for n, pitch in enumerate((69, 60))]  # A is the second voice of two
    voices = [0, 1, 2, 1, 1, 0]
    expected = [token for v in voices for token in (BROKEN_FROM + 2 * v + 1, *[BROKEN_FROM + 2 * v] * 5)]
    assert score(36, (0, C), (36, F), comp=in_c + in_f)[2].tolist() == expected


def test_voices_beyond_the_last_count_as_the_last() -> None:
    wide = [note(3 * n, 3, 60 + n) for n in range(BROKEN_VOICES + 2)]
    held = score(2 * len(wide), comp=wide)[2][1::2]
    assert held.tolist() == [BROKEN_FROM + 2 * min(n, BROKEN_VOICES - 1) for n in range(len(wide))]


def test_drums_of_a_frame_add_up_and_do_not_last() -> None:
    kick, snare, closed, ride, crash, tom = 36, 38, 42, 51, 49, 43
    struck = {0: (kick, closed), 3: (snare,), 6: (ride, crash), 9: (tom, kick, snare)}
    drums = [note(start, 20, pitch) for start, pitches in struck.items() for pitch in pitches]
    assert score(8, drums=drums)[3].tolist() == [1 + 4, 0, 2, 0, 8 + 16, 0, 32 + 1 + 2, 0]


@pytest.mark.parametrize("start", range(12))
@pytest.mark.parametrize("part", ["bass", "comp", "drums"])
def test_an_attack_names_the_codec_frame_within_its_frame(part: str, start: int) -> None:
    frame = 2 * start // 3
    within = [codec for codec in range(13) if 480 * frame <= 320 * codec < 480 * (frame + 1)]
    expected = [0] * 8
    expected[frame] = (ATTACK_EARLY, ATTACK_LATE)[within.index(start)]
    assert score(8, **{part: [note(start, 1, 36)]})[4].tolist() == expected


def test_what_is_struck_after_the_last_frame_is_left_out() -> None:
    late = {part: [note(12, 6, 36)] for part in ("bass", "comp", "drums")}
    np.testing.assert_array_equal(score(8, **late), score(8))


# ---- composed songs ----

seeds = pytest.mark.parametrize("seed", range(6))


def composed(seed: int) -> tuple[Piece, Tokens]:
    piece = compose(seed, TRIO)
    return piece, score_tokens(piece, int(piece.seconds * 50))


def moved(piece: Piece, semitones: int) -> Piece:
    """The same notes so much higher."""
    chords = tuple(
        replace(span, chord=replace(span.chord, root=(span.chord.root + semitones) % 12)) for span in piece.chords
    )
    pitched = {part: tuple(replace(n, pitch=n.pitch + semitones) for n in piece.parts[part]) for part in PARTS[1:]}
    return replace(piece, chords=chords, parts={**pitched, "drums": piece.parts["drums"]})


@seeds
def test_transposed_tokens_are_the_tokens_of_transposed_notes(seed: int) -> None:
    piece, tokens = composed(seed)
    for semitones in (1, 5, 11, -4):
        higher = score_tokens(moved(piece, semitones), tokens.shape[1])
        np.testing.assert_array_equal(transposed(tokens, BAND_TURNS, semitones), higher)


@seeds
def test_whatever_is_struck_has_an_attack_and_every_attack_something_struck(seed: int) -> None:
    _, (_, bass, comping, drums, attack) = composed(seed)
    broken = (comping >= BROKEN_FROM) & ((comping - BROKEN_FROM) % 2 == 1)
    struck = ((bass >= 12) & (bass < BASS_SILENT)) | (comping == COMPING_STRUCK) | broken | (drums > 0)
    np.testing.assert_array_equal(struck, attack > 0)
    assert struck.any()


@seeds
def test_the_bass_strikes_the_root_wherever_the_chord_changes(seed: int) -> None:
    _, (chord, bass, *_) = composed(seed)
    changes = np.flatnonzero(np.diff(chord, prepend=-1))
    np.testing.assert_array_equal(bass[changes], chord[changes] % 12 + 12)
    assert len(changes) > 3


@seeds
def test_tokens_fit_their_vocabulary(seed: int) -> None:
    _, tokens = composed(seed)
    assert tokens.min() >= 0
    assert tokens.max() < VOCABULARY
