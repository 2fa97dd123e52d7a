"""Songs by seed: what a song is for follows from its seed, whether it is composed or of a corpus."""

from pathlib import Path

import numpy as np
import pytest

from backline.corpus.corpus import Corpus
from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import four_tracks, has_four_tracks
from backline.corpus.songs import Composer, CorpusSongs, Mixed
from backline.music import fluidsynth
from backline.music.seeds import HELD_OUT_SEED, TEST_SEED
from backline.music.world import BAND, PEOPLE
from tests.support.corpora import noises, write_corpus, write_song

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))
TRACKS = ("vocals", "drums", "bass", "other")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    splits = ("training", "training", "validation", "test", "test")
    return write_corpus(
        tmp_path,
        *(
            write_song(tmp_path, f"song-{number}", noises(*TRACKS, seconds=2.0 + number), split=split)
            for number, split in enumerate(splits)
        ),
        write_song(tmp_path, "voiceless", noises("mix", seconds=9.0), split="test"),
    )


def test_a_seed_tells_what_a_song_is_for(corpus: Corpus) -> None:
    songs = CorpusSongs(corpus, has_four_tracks, seconds=1.0)
    learnt = {songs.song(seed).title for seed in range(40)}
    chosen_by = {songs.song(HELD_OUT_SEED + number).title for number in range(10)}
    assert (learnt, chosen_by) == ({"song-0", "song-1"}, {"song-2"})
    assert songs.test_songs() == 2  # the third has no four tracks
    judged_by = [songs.song(TEST_SEED + number) for number in range(2)]
    assert [(song.title, song.seconds) for song in judged_by] == [("song-3", 5.0), ("song-4", 6.0)]
    with pytest.raises(CorpusError, match="has 2 songs to judge by"):
        songs.song(TEST_SEED + 2)


def test_the_same_seed_is_the_same_clip_of_the_length_asked_for(corpus: Corpus) -> None:
    songs = CorpusSongs(corpus, has_four_tracks, seconds=1.0)
    clip = four_tracks(songs.song(7), 24_000)
    assert clip.shape == (4, 24_000)
    np.testing.assert_array_equal(clip, four_tracks(songs.song(7), 24_000))
    assert CorpusSongs(corpus, has_four_tracks, seconds=60.0).song(7).seconds == 3.0  # as long as the longest


@needs_fluidsynth
def test_sources_mix_at_a_ratio_in_training_alone(corpus: Corpus) -> None:
    real = CorpusSongs(corpus, has_four_tracks, seconds=1.0)
    mixed = Mixed(real, Composer(BAND, 24_000), share=0.3)
    drawn = [not mixed.song(seed).title.startswith("song-") for seed in range(12)]
    assert 1 <= sum(drawn) <= 7
    assert mixed.song(HELD_OUT_SEED + 3).title == "song-2"
    assert mixed.song(TEST_SEED).title == "song-3"
    assert mixed.test_songs() == 2


def test_passages_are_all_of_a_split_once_and_none_is_long(corpus: Corpus) -> None:
    songs = CorpusSongs(corpus, has_four_tracks, seconds=2.0)
    passages = songs.passages("training", 0)
    assert [round(each.song().seconds, 3) for each in passages] == [2.0, 1.5, 1.5]
    assert [each.title for each in passages] == ["song-0 from 0.0 s", "song-1 from 0.0 s", "song-1 from 1.5 s"]
    halves = [four_tracks(each.song(), 24_000) for each in passages[1:]]
    whole = four_tracks(corpus.songs("training")[1], 24_000)
    np.testing.assert_allclose(np.concatenate(halves, axis=1), whole, atol=1e-3)
    assert songs.passages("validation", 0)[0].title == "song-2 from 0.0 s"


def test_passages_of_two_sources_are_in_their_share(corpus: Corpus) -> None:
    mixed = Mixed(CorpusSongs(corpus, has_four_tracks, seconds=2.0), Composer(BAND, 24_000), share=0.25)
    assert len(mixed.passages("training", 100)) == 3 + 1
    assert len(mixed.passages("validation", 100)) == 2
    seeds = [each.seed for each in Composer(BAND, 24_000).passages("test", 3)]
    assert seeds == [TEST_SEED, TEST_SEED + 1, TEST_SEED + 2]


def test_a_card_says_what_was_learnt_from_and_a_command_how(corpus: Corpus) -> None:
    real, composer = CorpusSongs(corpus, has_four_tracks), Composer(PEOPLE, 48_000)
    mixed = Mixed(real, composer, share=0.25)
    assert real.card()["data"] == f"the corpus {corpus.folder.name}: 5 songs (5 of licence unknown)"
    assert composer.card()["world"] == "people"
    assert "licence unknown" in mixed.card()["data"]
    assert "for 25%, composed" in mixed.card()["data"]
    assert mixed.options() == f"--songs {corpus.folder} --world people --composed 0.25"


def test_what_is_to_be_kept_is_mixed_in_and_told_as_such() -> None:
    mixed = Mixed(Composer(PEOPLE, 48_000), Composer(BAND, 48_000), share=0.25, kept=True)
    assert mixed.card()["world"] == "people"
    assert mixed.options() == "--world people --keep-world band --composed 0.25"
