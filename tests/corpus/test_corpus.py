"""A corpus gives back what was written, at any rate and from any place; composed songs serve the same protocol."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from backline.corpus.corpus import Corpus, outside
from backline.corpus.manifest import CorpusError, stem_path
from backline.corpus.multitrack import (
    Composed,
    Excerpt,
    Multitrack,
    StemsMissing,
    four_tracks,
    has_four_tracks,
    has_voice_and_band,
    mixture,
    voice_and_band,
)
from backline.corpus.stem_names import label_of, title_and_label
from backline.music import fluidsynth
from backline.music.songs import song as compose
from backline.music.world import BAND
from tests.support.corpora import noises, write_corpus, write_song

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))
STEPS = 2 / 2**23  # of 24 bits


def test_stems_come_back_from_any_place(tmp_path: Path) -> None:
    stems = noises("vocals", "guitar", seconds=1.0)
    stems["guitar"] *= 30  # louder than full scale
    (song,) = write_corpus(tmp_path, write_song(tmp_path, "a", stems)).songs()
    np.testing.assert_allclose(song.read("vocals", 48_000), stems["vocals"], atol=STEPS)
    np.testing.assert_allclose(
        song.read("guitar", 48_000, 0.25, 0.5), stems["guitar"][:, 12_000:36_000], atol=8 * STEPS
    )
    assert song.read("vocals", 48_000, 0.9, 5.0).shape == (2, 4_800)
    assert song.read("vocals", 48_000, 2.0).shape == (2, 0)


@given(st.sampled_from([16_000, 24_000, 44_100, 96_000, 22_050]), st.floats(0, 0.9), st.floats(0, 0.5))
def test_a_span_at_another_rate_is_that_of_the_whole(
    whole: Multitrack, rate: int, begin: float, seconds: float
) -> None:
    all_of_it = soxr.resample(whole.read("vocals", 48_000).T, 48_000, rate).T
    found = whole.read("vocals", rate, begin, seconds)
    first = round(begin * rate)
    expected = all_of_it[:, first : first + found.shape[1]]
    assert abs(found.shape[1] - min(seconds, whole.seconds - begin) * rate) <= 1
    np.testing.assert_allclose(found, expected, atol=2e-4)  # of noise at 0.05


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Multitrack:
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(folder, write_song(folder, "a", noises("vocals", seconds=1.0))).songs()[0]


def test_four_tracks_and_two_are_sums_of_stems(tmp_path: Path) -> None:
    stems = noises("vocals", "bass", "guitar", "percussion")
    stems["bass"] = stems["bass"][:1]  # mono
    (song,) = write_corpus(tmp_path, write_song(tmp_path, "a", stems)).songs()
    other = (stems["guitar"] + stems["percussion"]).mean(axis=0)
    expected = np.stack([stems["vocals"].mean(axis=0), np.zeros(48_000), stems["bass"][0], other])
    np.testing.assert_allclose(four_tracks(song, 48_000), expected, atol=4 * STEPS)
    voice, band = voice_and_band(song, 48_000)
    np.testing.assert_allclose(voice, expected[0], atol=STEPS)
    np.testing.assert_allclose(band, expected[1:].sum(axis=0), atol=4 * STEPS)
    np.testing.assert_allclose(mixture(song, 48_000), sum(stems.values()), atol=4 * STEPS)


def test_stems_that_are_several_instruments_are_no_tracks(tmp_path: Path) -> None:
    labels = [("vocals", "instrumental"), ("guitar", "rest"), ("mix",), ("vocals", "drums", "mix"), ("drums",)]
    songs = [write_song(tmp_path, str(n), noises(*each, seconds=0.1)) for n, each in enumerate(labels)]
    corpus = write_corpus(tmp_path, *songs)
    assert [has_four_tracks(song) for song in corpus.songs()] == [False, False, False, True, True]
    assert [has_voice_and_band(song) for song in corpus.songs()] == [True, False, False, True, False]
    assert [song.title for song in corpus.songs(wanted=has_four_tracks)] == ["3", "4"]
    with pytest.raises(StemsMissing, match="1 has guitar, rest"):
        four_tracks(corpus.songs()[1], 48_000)
    with pytest.raises(StemsMissing, match="2 has mix, and no voice"):
        voice_and_band(corpus.songs()[2], 48_000)
    mixed = corpus.songs()[3]  # what it is separated into need not sum to its mix
    np.testing.assert_array_equal(mixture(mixed, 48_000), mixed.read("mix", 48_000))


def test_clips_are_drawn_by_seed_where_the_filters_pass(tmp_path: Path) -> None:
    entries = [
        write_song(tmp_path, "a", noises("vocals", seconds=3.0), failing={"silence": ((0.0, 1.0),)}),
        write_song(tmp_path, "b", noises("vocals", seconds=1.0), failing={"clipping": ((0.2, 0.4),)}),
        write_song(tmp_path, "c", noises("vocals", seconds=9.0), "test"),
    ]
    corpus = write_corpus(tmp_path, *entries)
    clips = [corpus.clip(seed, 0.7, "training", ("silence", "clipping")) for seed in range(60)]
    assert {clip.title for clip in clips} == {"a"}
    assert all(1.0 <= clip.begin <= 2.3 for clip in clips)
    assert min(clip.begin for clip in clips) < 1.2 < 2.1 < max(clip.begin for clip in clips)
    every = [corpus.clip(seed, 0.7, "training") for seed in range(200)]
    assert 10 < sum(clip.title == "b" for clip in every) < 50  # .3 of 2.6 seconds where one may begin
    again = Corpus.open(tmp_path).clip(7, 0.7, "training")
    assert (again.title, again.begin) == (every[7].title, every[7].begin)
    with pytest.raises(CorpusError, match="no 4 s for training"):
        corpus.clip(0, 4.0, "training")


def test_an_excerpt_is_a_song(tmp_path: Path) -> None:
    stems = noises("vocals")
    (song,) = write_corpus(tmp_path, write_song(tmp_path, "a", stems)).songs()
    excerpt = Excerpt(song, 0.25, 0.5)
    np.testing.assert_allclose(mixture(excerpt, 48_000), stems["vocals"][:, 12_000:36_000], atol=STEPS)
    np.testing.assert_allclose(mixture(excerpt, 48_000, 0.25, 9.0), stems["vocals"][:, 24_000:36_000], atol=STEPS)


def test_files_that_are_not_what_is_said_of_them_are_refused(tmp_path: Path) -> None:
    (song,) = write_corpus(tmp_path, write_song(tmp_path, "a", noises("vocals"))).songs()
    path = stem_path(tmp_path, "a", "vocals")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorpusError, match="damaged"):
        song.read("vocals", 48_000)
    soundfile.write(path, np.zeros((48_000, 1)), 48_000)
    with pytest.raises(CorpusError, match="not what corpus"):
        song.read("vocals", 48_000)
    path.unlink()
    with pytest.raises(CorpusError, match="no file of this corpus"):
        song.read("vocals", 48_000)
    outside_of_it = tmp_path.parent / f"{tmp_path.name}-secret.flac"
    outside_of_it.write_bytes(whole)
    path.symlink_to(outside_of_it)
    with pytest.raises(CorpusError, match="no file of this corpus"):
        song.read("vocals", 48_000)


@needs_fluidsynth
def test_a_composed_song_serves_the_same_protocol_and_comes_back_from_disk(tmp_path: Path) -> None:
    made = Composed(compose(3, BAND, 48_000))
    assert made.labels["vocals"] == "vocals"
    assert set(made.labels) <= {"vocals", "drums", "bass", "comp", "pad"}
    tracks = four_tracks(made, 48_000)
    np.testing.assert_allclose(tracks.sum(axis=0), made.song.mix, atol=1e-6)
    np.testing.assert_allclose(mixture(made, 48_000)[0], made.song.mix, atol=1e-6)
    np.testing.assert_array_equal(voice_and_band(made, 48_000, 1.0, 2.0)[0], made.song.vocal[48_000:144_000])
    stems = {label: made.read(stem, 48_000) for stem, label in made.labels.items()}
    (read,) = write_corpus(tmp_path, write_song(tmp_path, "a", stems)).songs()
    np.testing.assert_allclose(four_tracks(read, 48_000), tracks, atol=4 * STEPS)


@given(st.lists(st.tuples(st.floats(0, 12), st.floats(0, 12)).map(lambda s: (min(s), max(s))), max_size=6))
def test_outside_is_what_no_span_covers(spans: list[tuple[float, float]]) -> None:
    found = outside(spans, 10.0)
    for second in np.arange(0.005, 10, 0.1):
        covered = any(begin <= second <= end for begin, end in spans)
        assert any(begin < second < end for begin, end in found) != covered


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("vocals", "vocals"),
        ("Lead_Vocal", "vocals"),
        ("01 Drums", "drums"),
        ("guitar2", "guitar"),
        ("no_vocals", "instrumental"),
        ("Strings (continued)", "strings"),
        ("bass stem", "bass"),
        ("mixture", "mix"),
        ("song", None),
        ("Babylon", None),
    ],
)
def test_files_are_known_by_their_names(name: str, label: str | None) -> None:
    assert label_of(name) == label


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("So What (Vocals)", ("So What", "vocals")),
        ("rock_guitar", ("rock", "guitar")),
        ("A - B - no vocals", ("A - B", "instrumental")),
        ("1_Song_(Instrumental)", ("1_Song", "instrumental")),
        ("Étude bass", ("Étude", "bass")),
        ("vocals", None),
        ("Babylon", None),
    ],
)
def test_files_of_one_song_are_known_by_what_they_begin_with(name: str, found: tuple[str, str] | None) -> None:
    assert title_and_label(name) == found
