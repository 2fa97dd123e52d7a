"""Who sings in a world of people: never a test voice in training, everyone else sooner or later."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.music import people, vocoder
from backline.music.composer import compose
from backline.music.fluidsynth import missing as nothing_renders
from backline.music.people import people_sing, sings_as_written
from backline.music.prompts import Prompter, prompters
from backline.music.seeds import HELD_OUT_SEED, TEST_SEED, Purpose, purpose, training_seed
from backline.music.songs import song
from backline.music.speakers import FOLDER, LANGUAGES, Speaker, VoicesMissing, recordings, speakers
from backline.music.world import EVERYONE, PEOPLE
from tests.support.speaking import write_recordings

no_people = vocoder.missing()
with_people = pytest.mark.skipif(no_people is not None, reason=str(no_people))
PIECE = replace(compose(1, PEOPLE), bars=1)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every language's folders, empty."""
    write_recordings(tmp_path / "klettres")
    monkeypatch.setenv("BACKLINE_SYLLABLES", str(tmp_path / "klettres"))
    return tmp_path / "klettres"


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Speaker | Prompter]:
    """Who was asked to sing or speak; nobody does."""
    asked: list[Speaker | Prompter] = []

    def silent(who: Speaker | Prompter, *_: object) -> NDArray[np.float32]:
        asked.append(who)
        return np.zeros(48, np.float32)

    monkeypatch.setattr(people, "sung", silent)
    monkeypatch.setattr(people, "spoken", silent)
    monkeypatch.setattr(people, "sing", lambda *_: np.zeros(48, np.float32))
    monkeypatch.setattr(people, "recorded", lambda sound, *_: sound)
    return asked


def test_no_language_serves_two_purposes() -> None:
    every = [language for languages in LANGUAGES.values() for language in languages]
    assert len(every) == len(set(every)) == 20
    assert set(LANGUAGES["test"]) == {"cs", "en", "it", "ml"}


def test_seeds_say_what_a_song_is_for() -> None:
    assert [purpose(seed) for seed in (0, HELD_OUT_SEED - 1)] == ["training"] * 2
    assert [purpose(seed) for seed in (HELD_OUT_SEED, TEST_SEED - 1)] == ["validation"] * 2
    assert [purpose(seed) for seed in (TEST_SEED, 1 << 60)] == ["test"] * 2


@pytest.mark.parametrize(
    ("wanted", "seeds"),
    [
        ("training", [training_seed(run, number) for run in (0, 1, 65_535) for number in range(400)]),
        ("validation", range(HELD_OUT_SEED, HELD_OUT_SEED + 300)),
        ("test", range(TEST_SEED, TEST_SEED + 300)),
    ],
    ids=["training", "validation", "test"],
)
def test_every_voice_of_a_purpose_sings_and_no_other(
    wanted: Purpose, seeds: list[int], folders: Path, heard: list[Speaker]
) -> None:
    """So no test voice is ever drawn for a song that a trainer can name (training_seed)."""
    for seed in seeds:
        people_sing(replace(PIECE, seed=seed), 48_000)
    assert set(heard) == set(speakers(wanted))
    assert not {who.language for who in heard} & {
        other for name in LANGUAGES if name != wanted for other in LANGUAGES[name]
    }
    assert 0.65 < len(heard) / len(seeds) < 0.85  # the others are the formant singer


@pytest.mark.parametrize(("wanted", "first"), [("training", 0), ("validation", HELD_OUT_SEED), ("test", TEST_SEED)])
def test_sinsy_sings_for_training_alone_and_who_is_heard_by_seed_holds_in_every_cast(
    wanted: Purpose, first: int, folders: Path, heard: list[Speaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    sinsy: list[int] = []

    def counted(*_: object) -> NDArray[np.float32]:
        sinsy.append(1)
        return np.zeros(48, np.float32)

    monkeypatch.setattr(people, "sinsy_sings", counted)
    for seed in range(first, first + 300):
        people_sing(replace(PIECE, seed=seed), 48_000, replace(EVERYONE, sinsy=0.3, prompts=0.0))
    assert {who.language for who in heard} == set(LANGUAGES[wanted])
    assert (0.2 < len(sinsy) / 300 < 0.4) if wanted == "training" else not sinsy


@pytest.mark.parametrize(("wanted", "first"), [("training", 0), ("validation", HELD_OUT_SEED), ("test", TEST_SEED)])
def test_sentences_are_spoken_by_those_whose_purpose_it_is_and_by_no_other(
    wanted: Purpose, first: int, folders: Path, heard: list[Speaker | Prompter]
) -> None:
    for seed in range(first, first + 400):
        people_sing(replace(PIECE, seed=seed), 48_000, replace(EVERYONE, sinsy=0.0))
    speaking = [who for who in heard if isinstance(who, Prompter)]
    assert set(speaking) == set(prompters(wanted))
    assert 0.04 < len(speaking) / 400 < 0.13
    assert {who.language for who in heard} <= set(LANGUAGES[wanted])


@pytest.mark.parametrize("first", [0, HELD_OUT_SEED])
def test_a_song_knows_whether_the_syllables_of_its_notes_are_sung(
    first: int, folders: Path, heard: list[Speaker | Prompter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the formant singer or Sinsy, that is: whoever else is heard has been recorded with others."""
    monkeypatch.setattr(people, "sinsy_sings", lambda *_: np.zeros(48, np.float32))
    cast = replace(EVERYONE, sinsy=0.3, formant=0.3)
    for seed in range(first, first + 60):
        piece = replace(PIECE, seed=seed)
        before = len(heard)
        people_sing(piece, 48_000, cast)
        assert sings_as_written(piece, cast) == (len(heard) == before), seed


def test_languages_are_equally_likely(folders: Path, heard: list[Speaker]) -> None:
    for seed in range(1400):
        people_sing(replace(PIECE, seed=seed), 48_000)
    counts: dict[str, int] = defaultdict(int)
    for who in heard:
        counts[who.language] += 1
    assert max(counts.values()) < 2 * min(counts.values())


def test_without_recordings_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_SYLLABLES", str(tmp_path / "nowhere"))
    with pytest.raises(VoicesMissing, match=r"nowhere.*klettres-data.*BACKLINE_SYLLABLES"):
        people_sing(replace(PIECE, seed=1), 48_000)
    (tmp_path / "nowhere" / "de" / "alpha").mkdir(parents=True)
    with pytest.raises(VoicesMissing, match=r"nowhere/ar.*klettres-data"):
        speakers("training")


def test_a_speaker_with_many_recordings_gives_some_from_everywhere(folders: Path) -> None:
    who = Speaker("ml", "syllab")
    for number in range(465):
        (who.folder / f"{number:03}.ogg").touch()
    names = [path.stem for path in recordings(who)]
    assert (len(set(names)), names[0], names[-1]) == (120, "000", "464")


@with_people
@pytest.mark.skipif(nothing_renders() is not None, reason=str(nothing_renders()))
@pytest.mark.skipif(not FOLDER.is_dir(), reason="klettres-data is not installed")
def test_a_song_of_people_is_the_same_each_time_and_clips_nowhere() -> None:
    first, again = song(3, PEOPLE, 48_000), song(3, PEOPLE, 48_000)
    assert np.array_equal(first.vocal, again.vocal)
    for made in (first, song(HELD_OUT_SEED + 3, PEOPLE, 24_000)):
        assert made.vocal.dtype == np.float32
        assert len(made.vocal) == len(made.accompaniment)
        assert float(np.sqrt(np.mean(made.vocal**2))) > 0.02
        assert float(np.abs(made.mix).max()) <= 0.951
