"""Old tunes: who may hear which, how they are read, and which chords are found to them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backline.music import sources, tunes
from backline.music.composer import compose
from backline.music.harmonise import harmonise
from backline.music.melody import BREATH, PHRASE_BARS, sung_tune
from backline.music.seeds import HELD_OUT_SEED, TEST_SEED, Purpose
from backline.music.theory import Key, Metre
from backline.music.tunes import (
    CHORALES,
    COLLECTIONS,
    FIDDLERS,
    Entry,
    Tone,
    Tune,
    TunesMissing,
    draw_tune,
    entries,
    read,
)
from backline.music.world import OPEN, WORLDS

COMPASS = (48, 80)
PURPOSES: tuple[Purpose, ...] = ("training", "validation", "test")
STAR = "CCGG|AAG2|FFEE|DDC2|GGFF|EED2|GGFF|EED2|CCGG|AAG2|FFEE|DDC2|"  # in quarter notes
with_music21 = pytest.mark.skipif(tunes.missing() is not None, reason=str(tunes.missing()))


def abc(
    number: int, title: str, notes: str, metre: str = "4/4", length: str = "1/4", key: str = "C", note: str = ""
) -> str:
    return f"X: {number}\nT: {title}\n{note}M: {metre}\nL: {length}\nK: {key}\n{notes}\n\n"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Entry, ...]]:
    """A corpus of what is written into it, in O'Neill's place."""
    for collection in COLLECTIONS:
        (tmp_path / collection.folder).mkdir()
    monkeypatch.setattr(tunes, "corpus", lambda: tmp_path)

    def write(*texts: str) -> tuple[Entry, ...]:
        (tmp_path / FIDDLERS[0].folder / "some.abc").write_text("".join(texts))
        entries.cache_clear()
        return entries(tmp_path)

    return write


def random_notes(seed: int) -> str:
    """Sixteen bars of C major in quarters, the last one home."""
    steps = np.random.default_rng(seed).integers(0, 7, 64)
    letters = ["CDEFGAB"[step] for step in steps[:-1]] + ["C"]
    return "|".join("".join(letters[bar * 4 : bar * 4 + 4]) for bar in range(16)) + "|"


# ---- which tunes, and for whom ----


def test_without_music21_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunes, "find_spec", lambda name: None)
    with pytest.raises(TunesMissing, match=r"pip install 'backline\[tunes\]'"):
        compose(1, replace(OPEN, tunes=1.0, styles=("pop",)))
    assert "backline[tunes]" in str(sources.missing(OPEN))
    compose(1, WORLDS["wide"])


def test_what_asks_for_a_licence_is_nobodys(written: Callable[..., tuple[Entry, ...]], tmp_path: Path) -> None:
    found = written(
        abc(1, "The Rights of Man", STAR),
        abc(2, "Not for Sale", STAR, note="N: no commercial use\n"),
        abc(3, "Ours", STAR, note="Z: Copyright 1999 by somebody\n"),
        abc(4, "Two Endings", STAR.replace("DDC2|", "DDC2|1 C4 :|2 C4|", 1)),
    )
    assert [entry.name for entry in found] == ["The Rights of Man"]
    (tmp_path / FIDDLERS[0].folder / "license.txt").write_text("not for commercial use")
    assert written(abc(1, "The Rights of Man", STAR)) == ()


@with_music21
def test_the_collections_are_all_there_but_the_one_that_forbids_commercial_use() -> None:
    found = entries(tunes.corpus())
    assert {entry.collection for entry in found} == set(COLLECTIONS)
    assert {entry.file.parent.name for entry in found} == {"oneills1850", "ryansMammoth", "airdsAirs", "bach"}
    assert len(found) > 4000
    for wanted, share in (("training", 0.6), ("validation", 0.2), ("test", 0.2)):
        assert sum(entry.purpose == wanted for entry in found) / len(found) == pytest.approx(share, abs=0.03)


def test_a_name_has_one_purpose_however_it_is_written() -> None:
    names = ("The Kid on the Mountain", "Kid on the Mountain, The", "KID ON THE MOUNTAIN -- Jig.")
    assert len({Entry(FIDDLERS[0], Path("a.abc"), 1, name, "6/8").purpose for name in names}) == 1


@with_music21
def test_no_tune_that_is_learnt_from_has_the_name_or_the_beginning_of_one_that_is_judged_by(
    written: Callable[..., tuple[Entry, ...]],
) -> None:
    """Forty melodies, each under three names."""
    texts = [abc(3 * n + k + 1, f"Tune {'abc'[k]}{n}", random_notes(n)) for n in range(40) for k in range(3)]
    purposes = {entry.name: entry.purpose for entry in written(*texts)}
    names: dict[Purpose, set[str]] = {wanted: set() for wanted in PURPOSES}
    for wanted in PURPOSES:
        for seed in range(15):
            tune = draw_tune(np.random.default_rng(seed), wanted, Metre(4), ("major",), COMPASS, range(12))
            assert tune is not None
            name = tune.name.split(" (")[0]
            assert purposes[name] == wanted
            names[wanted].add(name)
    melodies = {wanted: {name.split()[1][1:] for name in names[wanted]} for wanted in PURPOSES}
    assert all(len(each) >= 3 for each in melodies.values())
    assert not melodies["training"] & (melodies["validation"] | melodies["test"])


@with_music21
@pytest.mark.parametrize(("first", "wanted"), [(0, "training"), (HELD_OUT_SEED, "validation"), (TEST_SEED, "test")])
def test_songs_sing_what_their_seed_is_for(
    first: int, wanted: Purpose, written: Callable[..., tuple[Entry, ...]]
) -> None:
    purposes = {
        entry.name: entry.purpose for entry in written(*(abc(n, f"Tune {n}", random_notes(n)) for n in range(60)))
    }
    world = replace(OPEN, tunes=1.0, styles=("pop", "reggae"))
    sung = {compose(seed, world).tune.split(" (")[0] for seed in range(first, first + 12)} - {""}
    assert len(sung) > 2
    assert {purposes[name] for name in sung} == {wanted}


# ---- reading ----


@with_music21
def test_a_tune_is_read_from_its_first_whole_bar(written: Callable[..., tuple[Entry, ...]]) -> None:
    (entry,) = written(abc(7, "Upbeat", "G|" + STAR.replace("A", "^A"), metre="2/4", length="1/8"))
    tune = read(entry, Metre(4))
    assert tune is not None
    assert (tune.name, tune.key, tune.bars) == (f"Upbeat ({FIDDLERS[0].name})", Key(0, "major"), 12)
    assert tune.melody[0] == Tone(0.0, 1.0, 60)
    assert tune.melody[4].pitch == 70


@with_music21
def test_metres_become_those_of_styles(written: Callable[..., tuple[Entry, ...]]) -> None:
    jig = "CDE GAG|" * 15 + "CDE C3|"
    entry, *_ = written(abc(1, "Jig", jig, metre="6/8", length="1/8"))
    for metre, bars in ((Metre(6, 8), 16), (Metre(12, 8), 8)):
        tune = read(entry, metre)
        assert tune is not None
        assert tune.bars == bars
        assert tune.melody[6].start == 3.0
    assert read(entry, Metre(4)) is None


@with_music21
def test_keys_are_told_by_signature_and_last_note_and_others_are_left_alone(
    written: Callable[..., tuple[Entry, ...]],
) -> None:
    found = written(*(abc(n, f"Tune {n}", STAR[:-3] + last) for n, last in enumerate(("C2|", "A2|", "D2|"))))
    keys = [tune and tune.key for tune in (read(entry, Metre(4)) for entry in found)]
    assert keys == [Key(0, "major"), Key(9, "minor"), None]


@with_music21
def test_a_chorale_has_four_voices_and_sings_the_highest() -> None:
    entry = next(entry for entry in entries(tunes.corpus()) if entry.name == "bwv269")
    tune = read(entry, Metre(3))
    assert tune is not None
    assert (tune.key, len(tune.below)) == (Key(7, "major"), 3)
    assert [tone.pitch for tone in tune.melody[:4]] == [67, 74, 71, 69]
    spans = harmonise(tune)
    assert {spans[0].chord.name, spans[-1].chord.name} == {"G"}
    assert tune.name == f"bwv269 ({CHORALES.name})"


# ---- singing and accompanying ----


def star() -> Tune:
    """In C, by quarters."""
    pitches = {"C": 60, "D": 62, "E": 64, "F": 65, "G": 67, "A": 69}
    melody = []
    for bar, text in enumerate(STAR.strip("|").split("|")):
        lengths = [1.0, 1.0, 2.0] if text.endswith("2") else [1.0] * 4
        starts = np.cumsum([0.0, *lengths[:-1]])
        notes = zip(starts, lengths, text.removesuffix("2"), strict=True)
        melody += [Tone(bar * 4 + float(start), length, pitches[letter]) for start, length, letter in notes]
    return Tune("Star", Key(0, "major"), Metre(4), 12, tuple(melody))


def test_plain_chords_are_found_to_a_melody_alone() -> None:
    spans = harmonise(star())
    assert sum(span.length for span in spans) == 48
    names = ["/".join(span.chord.name for span in spans if 4 * bar <= span.start < 4 * bar + 4) for bar in range(4)]
    assert names == ["C", "F/C", "F/C", "G/C"]
    assert [span.chord.name for span in harmonise(star().moved(2))] == [
        {"C": "D", "F": "G", "G": "A", "Dm": "Em", "Am": "Bm"}[span.chord.name] for span in spans
    ]


def test_a_pieces_own_harmony_is_kept() -> None:
    """Four voices, a chord a beat, two of them not on their root, one from outside the key."""
    chords = [(72, 67, 64, 48), (72, 69, 65, 53), (71, 67, 62, 47), (72, 67, 64, 48)] * 7
    chords += [(70, 67, 64, 48), (69, 65, 60, 53), (71, 67, 65, 43), (72, 67, 64, 48)]
    voices = [tuple(Tone(float(n), 1.0, chord[voice]) for n, chord in enumerate(chords)) for voice in range(4)]
    spans = harmonise(Tune("", Key(0, "major"), Metre(4), 8, voices[0], tuple(voices[1:])))
    assert [span.chord.name for span in spans][:4] == ["C", "F", "G", "C"]
    assert [span.chord.name for span in spans][-4:] == ["C7", "F", "G7", "C"]


def test_an_excerpt_begins_again_where_the_tune_ends() -> None:
    tune = star()
    part = tune.excerpt(8, 8)
    assert part.bars == 8
    assert [tone.pitch for tone in part.melody[:4]] == [60, 60, 67, 67]
    again = [tone for tone in part.melody if tone.start >= 16]
    assert again[0] == Tone(16.0, 1.0, 60)
    assert len(again) == len([tone for tone in tune.melody if tone.start < 16])
    assert max(tone.start + tone.length for tone in part.melody) == 32


def test_the_singer_breathes_after_each_phrase_and_sings_the_rest_as_it_is() -> None:
    tune = star()
    sung = sung_tune(np.random.default_rng(0), tune)
    assert [(note.start, note.pitch) for note in sung] == [(tone.start, tone.pitch) for tone in tune.melody]
    assert sung[0].syllable
    phrase = PHRASE_BARS * 4
    for end in range(phrase, 48 + 1, phrase):
        assert max(note.start + note.length for note in sung if note.start < end) == end - BREATH
    quick = replace(tune, melody=tuple(Tone(n / 2, 0.5, 60 + n % 5) for n in range(96)))
    assert len(sung_tune(np.random.default_rng(0), quick)) == 96 - 6


# ---- songs ----


@with_music21
def test_a_song_on_a_tune_sings_it_in_the_singers_compass_over_its_chords(
    written: Callable[..., tuple[Entry, ...]],
) -> None:
    written(*(abc(n, f"Tune {n}", random_notes(n)) for n in range(60)))
    world = replace(OPEN, tunes=1.0, styles=("pop",), forms=("short",), sevenths=0.0)
    pieces = [piece for seed in range(8) if (piece := compose(seed, world)).tune]
    assert len(pieces) > 3
    for piece in pieces:
        number = int(piece.tune.split()[1])
        letters = random_notes(number).replace("|", "")
        expected = {"verse": letters[:16], "chorus": letters[32:48]}
        for section in piece.sections:
            begin, end = section.first_bar * 4, (section.first_bar + section.bars) * 4
            own = [note for note in piece.melody if begin <= note.start < min(end, 28)]
            scale = piece.key.pitch_classes
            sung = ["CDEFGAB"[scale.index(note.pitch % 12)] for note in own]
            assert sung == list(expected[section.name][: len(own)])
        assert all(piece.voice.low <= note.pitch <= piece.voice.high for note in piece.melody)
        assert {span.chord for span in piece.chords} <= {piece.key.chord(degree) for degree in range(7)}
        assert sum(span.length for span in piece.chords) == piece.beats


@with_music21
def test_songs_without_a_tune_are_as_they_were_before_there_were_any(written: Callable[..., tuple[Entry, ...]]) -> None:
    written(*(abc(n, f"Tune {n}", random_notes(n)) for n in range(60)))
    pairs = [(compose(seed, OPEN), compose(seed, replace(OPEN, tunes=0.0))) for seed in range(40)]
    assert all(one == other for one, other in pairs if not one.tune)
    assert 2 <= sum(bool(one.tune) for one, _ in pairs) <= 16
