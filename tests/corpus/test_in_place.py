"""A data set's test songs as they lie on the disk: the same sound whatever span and rate it is read at."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from backline.corpus.in_place import read_in_place
from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import four_tracks, has_four_tracks, mixture
from backline.music.seeds import TEST_SEED
from tests.support.corpora import noises

TRACKS = ("vocals", "drums", "bass", "other")
RATE = 44_100


def write(folder: Path, seed: int, longer: int = 0) -> dict[str, np.ndarray]:
    """A song as MUSDB18-HQ has them, 44.1 kHz stereo; its bass may be longer than the rest."""
    folder.mkdir(parents=True)
    sounds = noises(*TRACKS, seconds=0.8, seed=seed)
    sounds["bass"] = np.pad(sounds["bass"], ((0, 0), (0, longer)))
    for name, sound in sounds.items():
        soundfile.write(folder / f"{name}.wav", sound.T, RATE, "FLOAT")
    soundfile.write(folder / "mixture.wav", sum(sounds[name][:, :1000] for name in TRACKS).T, RATE)
    return sounds


def test_the_test_songs_of_musdb18hq_are_read_where_they_lie(tmp_path: Path) -> None:
    write(tmp_path / "train" / "A - Learnt", 0)
    sounds = write(tmp_path / "test" / "B - Judged", 1, longer=700)
    write(tmp_path / "test" / "C - Judged too", 2)
    songs = read_in_place(f"musdb18hq:{tmp_path}", has_four_tracks)
    assert songs.test_songs() == 2
    song = songs.song(TEST_SEED)
    assert song.title == "B - Judged"
    tracks = four_tracks(song, 48_000)
    assert tracks.shape[1] == round(song.seconds * 48_000) == pytest.approx(39_100 * 48 / 44.1, abs=1)
    for place, name in enumerate(TRACKS):
        wanted = soxr.resample(sounds[name].mean(axis=0), RATE, 48_000)
        inner = slice(2_000, 38_000)  # a resampler rings at the edges
        np.testing.assert_allclose(tracks[place, inner], wanted[inner], atol=1e-3)
    np.testing.assert_array_equal(four_tracks(song, 48_000, 0.25, 0.5), tracks[:, 12_000:36_000])
    np.testing.assert_allclose(
        four_tracks(song, 24_000)[:, 6_000:18_000], four_tracks(song, 24_000, 0.25, 0.5), atol=1e-4
    )
    np.testing.assert_allclose(mixture(song, 48_000).mean(axis=0), tracks.sum(axis=0), atol=1e-6)


def test_nothing_learns_from_what_is_for_judging(tmp_path: Path) -> None:
    write(tmp_path / "test" / "song", 1)
    songs = read_in_place(f"musdb18hq:{tmp_path}", has_four_tracks)
    with pytest.raises(CorpusError, match="for judging alone"):
        songs.song(0)
    with pytest.raises(CorpusError, match="has 1 songs"):
        songs.song(TEST_SEED + 1)


def test_a_folder_that_is_no_data_set_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has no folder test"):
        read_in_place(f"musdb18hq:{tmp_path}", has_four_tracks)
    (tmp_path / "test").mkdir()
    with pytest.raises(CorpusError, match="no songs with the stems"):
        read_in_place(f"musdb18hq:{tmp_path}", has_four_tracks)
