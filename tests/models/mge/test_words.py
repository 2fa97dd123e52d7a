"""What instruments are called: every programme has a name, and what is held out is in no phrase."""

import re

import numpy as np
import pytest

from backline.models.mge.words import (
    BAND,
    BASS,
    DRUMS,
    FAMILIES,
    HELD_OUT,
    INSTRUMENTS,
    LABELS,
    VOICE,
    WHOLE,
    WITHOUT,
    ask,
    ask_for_all,
    can_be_asked_for,
    instruments_of,
    labels_of,
    mistyped,
    phrase,
    phrases,
    words_of,
)
from backline.music.styles import STYLES
from backline.music.world import WORLDS

PLAYED = {
    (part, programme)
    for band in [
        *(band for world in WORLDS.values() for band in world.bands),
        *(band for style in STYLES.values() for band in style.bands),
    ]
    for part, programme in (("bass", band.bass), ("comp", band.comp), ("pad", band.pad))
    if programme is not None
}


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def test_there_are_at_least_twenty_instruments_and_each_belongs_to_families_that_exist() -> None:
    assert len(INSTRUMENTS) >= 20
    assert not INSTRUMENTS.keys() & FAMILIES.keys()
    for family, label in FAMILIES.items():
        assert set(label.members) <= INSTRUMENTS.keys(), family


def test_no_programme_has_two_instruments() -> None:
    programmes = [programme for label in INSTRUMENTS.values() for programme in label.programmes]
    assert len(programmes) == len(set(programmes))


@pytest.mark.parametrize(("part", "programme"), sorted(PLAYED))
def test_everything_that_a_world_plays_has_labels(part: str, programme: int) -> None:
    labels = labels_of(part, programme)
    assert labels[0] in INSTRUMENTS
    assert (part == "bass") == (BASS in labels)


def test_stems_have_their_family_beside_their_instrument() -> None:
    assert labels_of("comp", 0) == ("piano", "keys")
    assert labels_of("comp", 27) == ("electric guitar", "guitar")
    assert labels_of("vocal") == labels_of(VOICE) == (VOICE,)
    assert labels_of(DRUMS, 40) == (DRUMS,)
    assert labels_of("piano") == ("piano", "keys")  # as a corpus calls it
    with pytest.raises(ValueError, match="127"):
        labels_of("comp", 127)


def test_forty_words_are_held_out_and_in_no_phrase() -> None:
    held_out = [word for found in HELD_OUT.values() for word in found]
    assert len(held_out) == len(set(held_out)) == 40
    assert HELD_OUT.keys() <= LABELS.keys()
    trained = set().union(*(words(phrase) for phrase, _ in phrases()))
    assert not trained & set().union(*map(words, held_out))
    rng = np.random.default_rng(0)
    asked = [ask(rng, (name,)) for name in LABELS for _ in range(200)]
    assert not set().union(*map(words, asked)) & set().union(*map(words, held_out))


def test_no_word_names_two_instruments() -> None:
    every = [word for name in LABELS for word in words_of(name)]
    assert len(every) == len(set(every)), sorted(word for word in set(every) if every.count(word) > 1)


def test_phrases_mean_what_they_say() -> None:
    meant = dict(phrases())
    assert 2_500 <= len(meant) <= 6_000
    assert meant["the sound of the piano"] == {"piano"}
    assert meant["the bass"] == set(instruments_of(BASS))
    assert meant["everything but the vocals"] == meant["karaoke"] == INSTRUMENTS.keys() - {VOICE}
    assert all(found and found <= INSTRUMENTS.keys() for found in meant.values())
    assert not any("the the " in phrase or "{" in phrase for phrase in meant)


def test_sums_are_asked_for_by_what_is_in_them() -> None:
    rng = np.random.default_rng(1)
    bass, drums, piano, voice = labels_of("bass", 33), (DRUMS,), labels_of("comp", 0), (VOICE,)
    asked = {ask_for_all(rng, (bass, drums, piano), (voice, labels_of("pad", 48))) for _ in range(200)}
    assert any(phrase.startswith("the sound of the ") and "bass" in phrase and "drums" in phrase for phrase in asked)
    assert not any("voc" in phrase for phrase in asked)
    asked = {ask_for_all(rng, (bass, drums, piano), (voice,)) for _ in range(200)}
    assert {"everything but the vocals", "the backing track"} <= asked
    assert "the whole song" in {ask_for_all(rng, (bass, drums, voice)) for _ in range(200)}
    assert "the rhythm section" in {ask_for_all(rng, (drums, bass), (piano, voice)) for _ in range(200)}


def test_what_has_no_label_is_asked_for_by_what_is_left_out_or_not_at_all() -> None:
    rng = np.random.default_rng(2)
    bass, voice = labels_of("bass", 33), (VOICE,)
    assert {ask_for_all(rng, (bass, ())) for _ in range(200)} <= set(WHOLE)
    without = {phrase(template, VOICE) for template in WITHOUT}
    assert {ask_for_all(rng, (bass, ()), (voice,)) for _ in range(200)} <= {*without, *BAND}
    for wanted, absent in (((bass, ()), (voice, (DRUMS,))), ((bass, ()), ((),)), (((),), (bass,)), ((), (bass,))):
        assert not can_be_asked_for(wanted, absent)
        with pytest.raises(ValueError, match="no label"):
            ask_for_all(rng, wanted, absent)


def test_one_letter_is_mistyped() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        typed = mistyped(rng, "the saxophone")
        assert typed.startswith("the ")
        assert abs(len(typed) - len("the saxophone")) <= 1
    assert mistyped(rng, "a b") == "a b"
