"""What every composed piece must hold, in both worlds."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backline.music.arranger import SUNG
from backline.music.backing import BASS_HIGH, BASS_LOW, lead
from backline.music.composer import compose
from backline.music.piece import Piece, chord_under
from backline.music.theory import Chord, Key
from backline.music.world import NARROW, PARTS, TRIO, WIDE, World

worlds = pytest.mark.parametrize("world", [NARROW, WIDE], ids=["narrow", "wide"])
seeds = st.integers(0, 2**62)


@worlds
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_a_seed_names_one_piece(world: World, seed: int) -> None:
    assert compose(seed, world) == compose(seed, world)


@worlds
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_chords_fill_the_piece_without_gap_and_end_on_the_tonic(world: World, seed: int) -> None:
    piece = compose(seed, world)
    beat = 0.0
    for span in piece.chords:
        assert span.start == beat
        beat += span.length
    assert beat == piece.beats
    assert piece.chords[-1].chord.root == piece.key.tonic


@worlds
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_the_singer_sings_chord_tones_on_the_beat_in_range_and_may_breathe(world: World, seed: int) -> None:
    piece = compose(seed, world)
    for note in piece.melody:
        assert piece.voice.low <= note.pitch <= piece.voice.high
        chord = chord_under(piece.chords, note.start)
        strong = note.start % piece.beats_per_bar in piece.metre.strong
        if strong and note is not piece.melody[-1]:
            assert note.pitch % 12 in chord.pitch_classes
        assert note.pitch % 12 in {*piece.key.scale_over(chord), *chord.pitch_classes}
    rests = [b.start - a.start - a.length for a, b in zip(piece.melody, piece.melody[1:], strict=False)]
    assert min(rests) >= 0
    sung_bars = sum(section.bars for section in piece.sections if section.name in SUNG)
    assert sum(rest >= 0.9 for rest in rests) >= sung_bars // 2 - 1
    if piece.sections[-1].name in SUNG:
        assert piece.melody[-1].pitch % 12 == piece.key.tonic
    assert piece.melody[0].syllable


@worlds
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_the_band_stays_in_the_piece_and_the_bass_gives_every_chord_its_root(world: World, seed: int) -> None:
    piece = compose(seed, world)
    assert tuple(piece.parts) == PARTS
    for part in PARTS:
        assert bool(piece.parts[part]) == (part != "pad" or piece.band.pad is not None)
        for note in piece.parts[part]:
            assert note.start >= 0
            assert note.length > 0
            assert note.start + note.length <= piece.beats + 1e-9
            assert 1 <= note.velocity <= 127
    assert all(BASS_LOW <= note.pitch <= BASS_HIGH for note in piece.parts["bass"])
    for span in piece.chords:
        over = [note for note in piece.parts["bass"] if span.start <= note.start < span.start + span.length]
        assert over[0].pitch % 12 == span.chord.root


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_harmony_parts_play_only_what_the_chord_label_says(seed: int) -> None:
    piece = compose(seed, WIDE)
    for part in ("comp", "pad"):
        for note in piece.parts[part]:
            assert note.pitch % 12 in chord_under(piece.chords, note.start).pitch_classes


def test_the_narrow_world_has_white_keys_one_band_and_one_voice() -> None:
    pieces = [compose(seed, NARROW) for seed in range(30)]
    assert {piece.key.name for piece in pieces} == {"C major", "A minor"}
    assert len({(piece.band, piece.voice, piece.beats_per_bar) for piece in pieces}) == 1
    assert {piece.tempo for piece in pieces} <= {float(tempo) for tempo in range(88, 113)}


def test_the_narrow_players_always_strike_alike_and_give_each_chord_one_voicing() -> None:
    for piece in (compose(seed, NARROW) for seed in range(20)):
        struck = {(note.pitch, note.velocity) for note in piece.parts["bass"]}
        assert {velocity for _, velocity in struck} <= {86, 98}
        voicings: dict[str, set[int]] = {}
        for span in piece.chords:
            heard = {n.pitch for n in piece.parts["comp"] if span.start <= n.start < span.start + span.length}
            assert len(voicings.setdefault(span.chord.name, set()) | heard) <= len(span.chord.pitch_classes)
            voicings[span.chord.name] |= heard
        assert not piece.parts["pad"]


def test_dynamics_is_how_far_the_players_stray_from_what_they_mean() -> None:
    lively = replace(NARROW, dynamics=8.0)
    struck = [note.velocity for seed in range(10) for note in compose(seed, lively).parts["bass"]]
    meant = [note.velocity for seed in range(10) for note in compose(seed, NARROW).parts["bass"]]
    assert len(struck) == len(meant)
    assert 6 < (sum((a - b) ** 2 for a, b in zip(struck, meant, strict=True)) / len(meant)) ** 0.5 < 10


@pytest.mark.parametrize(
    ("world", "fingerprints"),
    [
        (NARROW, ["cb0125c6b6858e01", "3e646249f238d4bd", "874f89a8eb8be3b6"]),
        (TRIO, ["fedd90d9a807bf06", "3072dfdf79056cef", "e9a3e20af9ddb848"]),
    ],
    ids=["narrow", "trio"],
)
def test_what_packs_were_trained_on_never_changes(world: World, fingerprints: list[str]) -> None:
    assert [fingerprint(compose(seed, world)) for seed in (0, 1, 1 << 40)] == fingerprints


def fingerprint(piece: Piece) -> str:
    """Of every note and chord."""
    notes = [
        (part, f"{note.start:.6f} {note.length:.6f}", note.pitch, note.velocity, note.syllable)
        for part, written in [("voice", piece.melody), *piece.parts.items()]
        for note in written
    ]
    chords = [(f"{span.start:.3f} {span.length:.3f}", span.chord.name) for span in piece.chords]
    return hashlib.sha256(repr((piece.key.name, piece.tempo, chords, notes)).encode()).hexdigest()[:16]


def test_a_world_can_be_moved_to_other_keys() -> None:
    moved = replace(NARROW, tonics=(7,))
    assert {compose(seed, moved).key.name for seed in range(20)} == {"G major", "E minor"}


def test_an_odd_number_of_phrases_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"6 bars.*multiple of 4"):
        compose(0, replace(NARROW, bars=6))


def test_diatonic_chords_are_those_of_the_textbook() -> None:
    assert [Key(0, "major").chord(degree).name for degree in range(7)] == ["C", "Dm", "Em", "F", "G", "Am", "Bdim"]
    assert [Key(9, "minor").chord(degree).name for degree in range(7)] == ["Am", "Bdim", "C", "Dm", "E", "F", "G"]
    assert Key(0, "major").chord(4, seventh=True).name == "G7"
    assert Key(9, "minor").scale_over(Chord(4, "maj")) == (9, 11, 0, 2, 4, 5, 8)


def test_voices_move_to_the_nearest_chord_tones() -> None:
    assert lead((60, 64, 67), Chord(9, "min"), 52, 72) == (60, 64, 69)
