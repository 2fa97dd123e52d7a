"""Songs in styles: every style fits its metre, forms repeat their material, levels thin the band, swing is late."""

from dataclasses import replace

import pytest

from backline.music.arranger import read_figure
from backline.music.composer import compose
from backline.music.piece import Note, Piece, Section
from backline.music.styles import FORMS, LEVELS, STYLES, Style
from backline.music.theory import Chord, Key, Metre
from backline.music.world import OPEN, POP, WIDE, WORLDS

styles = pytest.mark.parametrize("style", STYLES.values(), ids=list(STYLES))


def in_style(style: str, seed: int, *forms: str) -> Piece:
    return compose(seed, replace(WIDE, styles=(style,), forms=forms or STYLES[style].forms))


def notes_of(piece: Piece, part: str, section: Section) -> list[tuple[float, float, int]]:
    """(beat from the section's start, length, pitch)."""
    begin, end = (bar * piece.beats_per_bar for bar in (section.first_bar, section.first_bar + section.bars))
    notes = piece.melody if part == "vocal" else piece.parts[part]
    return [(round(n.start - begin, 6), round(n.length, 6), n.pitch) for n in notes if begin <= n.start < end]


@styles
def test_every_figure_fills_whole_bars_and_every_numeral_is_a_chord(style: Style) -> None:
    bar = 4 * style.metre.beats_per_bar
    grooves = [figure for level in style.drums.values() for groove in level for figure in groove.values()]
    others = [figure for figures in (style.bass, style.comp) for level in figures.values() for figure in level]
    for figure in grooves + others:
        assert len(figure.replace(" ", "")) in {bar, 2 * bar}
    assert all(set(levels) == set(LEVELS.values()) for levels in (style.drums, style.bass, style.comp))
    for mode, loops in style.loops.items():
        for numeral in " ".join(loops).replace(",", " ").split():
            Key(0, mode).numeral(numeral)


@styles
def test_every_style_plays_each_of_its_forms_to_the_end(style: Style) -> None:
    for form in style.forms:
        piece = in_style(style.name, 5, form)
        assert piece.style == style.name
        assert piece.metre == style.metre
        assert style.tempi[0] <= piece.tempo <= style.tempi[1]
        assert ", ".join(f"{section.name} {section.bars}" for section in piece.sections) == FORMS[form]
        for part in ("drums", "bass", "comp"):
            assert max(note.start for note in piece.parts[part]) == piece.beats - piece.beats_per_bar
        assert bool(piece.parts["pad"]) == (piece.band.pad is not None)


def test_sections_of_one_name_repeat_chords_melody_and_band() -> None:
    piece = in_style("pop", 11, "song")
    first, second = (section for section in piece.sections if section.name == "chorus")
    for part in ("vocal", "bass", "comp", "pad"):
        heard = [notes_of(piece, part, section) for section in (first, second)]
        if part in {"vocal", "bass"}:
            heard = [[note for note in notes if note[0] < 7 * piece.beats_per_bar] for notes in heard]
        if part in {"comp", "pad"}:  # led from what came before: the same times
            assert [note[0] for note in heard[0]] == [note[0] for note in heard[1]]
        else:
            assert [note[:2] for note in heard[0]] == [note[:2] for note in heard[1]]
            assert [note[2] % 12 for note in heard[0]] == [note[2] % 12 for note in heard[1]]
    verses = [section for section in piece.sections if section.name == "verse"]
    words = [
        [note.syllable for note in piece.melody if 4 * s.first_bar <= note.start < 4 * (s.first_bar + s.bars)]
        for s in verses
    ]
    assert len(words[0]) == len(words[1])
    assert words[0] != words[1]


def test_intros_are_not_sung_and_choruses_have_more_notes_than_intros() -> None:
    for seed in range(10):
        piece = in_style("rock", seed, "song")
        intro, chorus = (next(s for s in piece.sections if s.name == name) for name in ("intro", "chorus"))
        assert not notes_of(piece, "vocal", intro)
        per_bar = [len(notes_of(piece, "drums", section)) / section.bars for section in (intro, chorus)]
        assert per_bar[1] > 1.5 * per_bar[0]


def test_swing_puts_the_second_eighth_where_its_ratio_says_and_keeps_the_beats() -> None:
    piece = in_style("swing", 3, "aaba")
    places = {round(note.start % 1, 3) for note in piece.parts["drums"]}
    assert places == {0.0, 0.66}
    assert {round(note.start % 1, 3) for note in piece.melody} <= {0.0, 0.66}


def test_two_chords_in_a_bar_change_on_a_tap() -> None:
    spans = [span for seed in range(8) for span in in_style("folk", seed, "song").chords]
    assert {span.length for span in spans} == {3.0, 1.5}
    waltzes = replace(WIDE, styles=("waltz",), forms=("short",), modes=("major",))
    assert {span.length for seed in range(20) for span in compose(seed, waltzes).chords} == {3.0, 2.0, 1.0}


def test_all_of_the_wide_worlds_styles_occur() -> None:
    assert {compose(seed, WIDE).style for seed in range(70)} == set(WIDE.styles)
    assert {compose(seed, replace(OPEN, tunes=0.0)).style for seed in range(120)} == set(STYLES) == set(OPEN.styles)
    assert set(WIDE.forms) == set(FORMS)


def test_figures_are_read_with_their_holds_and_rests() -> None:
    assert read_figure("x--. R-5.") == [(0.0, 0.75, "x"), (1.0, 0.5, "R"), (1.5, 0.25, "5")]


@pytest.mark.parametrize(
    ("numeral", "major", "minor"),
    [
        ("I", "C:maj", "C:maj"),
        ("ii7", "D:min7", "D:min7"),
        ("V7", "G:7", "G:7"),
        ("bVII", "Bb:maj", "A:maj"),
        ("VI", "A:maj", "Ab:maj"),
        ("iim7b5", "D:hdim7", "D:hdim7"),
        ("viio", "B:dim", "Bb:dim"),
        ("Imaj7", "C:maj7", "C:maj7"),
    ],
)
def test_numerals_stand_on_the_scale_of_their_key(numeral: str, major: str, minor: str) -> None:
    assert (Key(0, "major").numeral(numeral).harte, Key(0, "minor").numeral(numeral).harte) == (major, minor)


def test_what_is_no_numeral_is_refused_with_examples() -> None:
    with pytest.raises(ValueError, match=r"'viiii'.*ii7"):
        Key(0, "major").numeral("viiii")


def test_scales_bend_as_blues_and_secondary_dominants_want() -> None:
    major = Key(0, "major")
    assert major.scale_over(Chord(0, "7")) == (0, 2, 4, 5, 7, 9, 10)
    assert major.scale_over(Chord(2, "7")) == (0, 2, 4, 6, 7, 9, 11)
    assert major.scale_over(Chord(5, "7")) == (0, 2, 3, 5, 7, 9, 11)
    assert major.scale_over(Chord(10, "maj")) == (0, 2, 4, 5, 7, 9, 10)


def test_sevenths_are_those_of_the_scale() -> None:
    major = Key(0, "major")
    names = [major.with_seventh(major.chord(degree)).harte for degree in range(7)]
    assert names == ["C:maj7", "D:min7", "E:min7", "F:maj7", "G:7", "A:min7", "B:dim"]


def test_six_eight_is_two_taps_of_three_eighths() -> None:
    metre = Metre(6, 8)
    assert (metre.beats_per_bar, metre.pulse, metre.name) == (3, 1.5, "6/8")


def test_worlds_that_fit_nothing_say_what_would() -> None:
    with pytest.raises(ValueError, match=r"'polka'.*pop, rock"):
        compose(0, replace(WIDE, styles=("polka",)))
    with pytest.raises(ValueError, match=r"style blues.*as blues.*widen"):
        compose(0, replace(WIDE, styles=("blues",), forms=("short",)))


def test_the_pop_world_is_even_and_on_codec_frames() -> None:
    assert WORLDS["pop"] is POP
    piece = compose(1, POP)
    assert piece.onset_grid is not None
    assert {note.velocity for note in piece.parts["bass"]} <= {86, 98}
    assert isinstance(piece.melody[0], Note)
