"""Songs as DuoTok's tokenizer learns from them: what is measured of them, and the rows that are drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import Composed, Excerpt, StemsMissing, four_tracks, made_of
from backline.corpus.songs import Composer
from backline.music.world import DUO, Band
from backline.training.duotok_rows import (
    KINDS,
    Drawing,
    Drawn,
    Kind,
    Syllables,
    WordPieces,
    chroma_of,
    masks_of,
    pauses,
)
from backline.training.duotok_songs import (
    FRAME,
    FULL_SCALE,
    SAMPLE_RATE,
    Listener,
    Pool,
    levels,
    read_songs,
    tones,
    words_of,
    write_songs,
)
from backline.training.tokens import shard_path
from tests.support.toy_duotok import ROWS, toy_song
from tests.support.toy_mge import Tones

PLAIN = replace(DUO, bars=8, tempi=(120, 120), bands=(Band(pad=None),), people=False)
A, BOTH = 9, np.ones(2)  # pitch class; gains of voice and band


def only(kind: Kind, rows: int = 4, seconds: float = 1.0) -> Drawn:
    return replace(ROWS, rows=rows, seconds=(seconds, seconds), shares=tuple(float(each == kind) for each in KINDS))


def test_the_power_of_a_tone_is_in_its_pitch_class_and_grows_with_its_square() -> None:
    time = np.arange(25 * FRAME) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    soft, loud = tones(0.1 * tone)[10], tones(0.3 * tone)[10]
    assert soft.argmax() == loud.argmax() == A
    assert loud[A] / soft[A] == pytest.approx(9, rel=1e-2)


def test_powers_of_two_sides_add_up() -> None:
    song = toy_song()
    together = tones(song.audio(0, song.frames)[0] + toy_song().audio(0, song.frames)[0])
    assert np.allclose(together, 4 * song.tones[0], rtol=0.05, atol=1e-5)


def test_masks_are_shares_of_the_true_tracks() -> None:
    """Against the plain definition, of magnitudes in mel bands of the stems."""
    song, gains = toy_song(), np.array([0.5, 1.0])
    found = masks_of(song, 10, 20, gains)
    assert found.shape == (4, 64, 80)
    voice, band = song.audio(0, song.frames)
    magnitudes = levels(np.stack([0.5 * voice, 0 * voice, band, 0 * voice])).astype(np.float32)
    wanted = (magnitudes / (magnitudes.sum(0) + 0.1))[..., 40:120]
    assert np.abs(found - wanted).max() < 0.05  # of 16 bits
    alone = masks_of(song, 10, 20, np.array([1.0, 0.0]))
    assert not alone[1:].any()
    assert alone[0].max() > 0.99


def test_silence_has_no_chroma_and_belongs_to_no_track() -> None:
    song = toy_song(sounding=False)
    assert not chroma_of(song, 0, 25, BOTH).any()
    assert not masks_of(song, 0, 25, BOTH).any()
    sung = chroma_of(toy_song(), 0, 25, np.array([1.0, 0.0]))
    assert not sung[:5].any()  # before the voice begins
    assert sung[15].sum() == pytest.approx(1)
    assert sung[15].argmax() == A


def test_what_lies_after_the_end_is_silent() -> None:
    song = toy_song()
    frames = song.frames
    assert not song.audio(frames - 5, 10)[:, 5 * FRAME :].any()
    assert not chroma_of(song, frames - 5, 10, BOTH)[5:].any()
    assert not masks_of(song, frames - 5, 10, BOTH)[..., 20:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_what_its_kind_says(kind: Kind) -> None:
    song = toy_song()
    batch = Drawing(only(kind), Syllables(), 0).batch([song])
    assert batch.audio.shape == (4, SAMPLE_RATE)
    assert batch.chroma.shape == (4, 25, 12)
    assert batch.masks.shape == (4, 4, 64, 100)
    assert batch.masked.all()
    assert batch.sung.tolist() == 4 * [kind == "voice"]
    spectra = torch.fft.rfft(batch.audio).abs().mean(0)
    assert (float(spectra[440]) > 20) == (kind in ("mix", "voice"))  # bins are hertz
    assert (float(spectra[220]) > 100) == (kind != "voice")
    assert all(len(words) > 0 for words in batch.words) == (kind in ("mix", "voice"))


def test_rows_end_where_phrases_do() -> None:
    """And so hold the last words of one: the toy's phrases end at 1.2 and 2.6 s."""
    song, drawing = toy_song(), Drawing(only("voice"), Syllables(), 0)
    for _ in range(50):
        first = drawing.begin(song, "voice", 25)
        end = (first + 25) * FRAME / SAMPLE_RATE
        assert 1.16 <= end <= 1.5 or 2.56 <= end <= 2.9
        assert len(drawing.told(song, first, 25)) >= 1


def test_an_accompaniment_alone_is_one_under_which_nobody_sings() -> None:
    song, drawing = toy_song(), Drawing(only("alone"), None, 0)
    free = pauses(song, 10)
    for first in range(len(free)):
        begin, end = first * FRAME / SAMPLE_RATE, (first + 10) * FRAME / SAMPLE_RATE
        sung = any(begin < stop and end > start for start, stop in song.phrases)
        near = any(min(abs(begin - stop), abs(end - start)) < 0.05 for start, stop in song.phrases)  # within a frame
        assert near or free[first] == (not sung), first
    assert all(free[drawing.begin(song, "alone", 10)] for _ in range(20))
    drawing.begin(song, "alone", 60)  # where somebody sings throughout, anywhere


def test_words_are_told_in_order_and_only_where_they_are_whole() -> None:
    song, drawing, syllables = toy_song(), Drawing(ROWS, Syllables(), 0), Syllables()
    la, mo = (syllables.numbers(word)[0] for word in ("la", "mo"))  # type: ignore[index]
    assert drawing.told(song, 0, song.frames) == [la, mo, mo, la]
    assert drawing.told(song, round(0.6 * 25), 25) == [mo]  # from 0.6 to 1.6 s: "la" has begun before
    assert drawing.told(replace(song, words=("la", "strength", "mo", "la")), 0, song.frames) == []  # cannot be written


def test_there_are_55_syllables() -> None:
    syllables = Syllables()
    assert len(syllables) == 55
    every = {tuple(syllables.numbers(onset + vowel) or ()) for onset in "lnmdbshwyt" for vowel in "aeiou"}
    assert len(every) == 50
    assert min(every) >= (1,)
    assert max(every) <= (55,)
    assert syllables.numbers("strength") is None


def test_word_pieces_come_from_a_local_vocabulary_in_its_case(tmp_path: Path) -> None:
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Love", "love", "##ly"]) + "\n")
    pieces = WordPieces(vocab)
    assert len(pieces) == 8
    assert pieces.numbers("Love") == [6]
    assert pieces.numbers("lovely") == [7, 8]
    assert pieces.numbers("hate") is None
    with pytest.raises(ValueError, match=r"give the vocab\.txt of bert-base-multilingual-cased"):
        WordPieces(tmp_path / "none.txt")


def test_draws_go_on_where_a_checkpoint_left_them() -> None:
    songs = [toy_song(seed) for seed in range(3)]
    first = Drawing(ROWS, Syllables(), 0)
    first.batch(songs)
    second = Drawing(ROWS, Syllables(), 7)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.batch(songs).audio, second.batch(songs).audio)


def test_a_composed_song_has_the_words_that_are_sung_and_the_chords_that_are_played() -> None:
    made = Composer(PLAIN, SAMPLE_RATE).song(3)
    song = Listener(One(made))(0, varied=False)  # type: ignore[arg-type]
    notes = [note for note in made.song.piece.melody if note.syllable]
    assert song.words == tuple(note.syllable for note in notes)
    beat = made.song.piece.seconds_per_beat
    assert np.allclose(
        song.times, [(note.start * beat, (note.start + note.length) * beat) for note in notes], atol=1e-5
    )
    assert np.array_equal(song.chords, made.song.chord_at(25)[: song.frames])
    tracks = four_tracks(made, SAMPLE_RATE)
    assert np.abs(song.sound[0] / FULL_SCALE - tracks[0][: song.frames * FRAME]).max() < 1e-4
    gaps = song.phrases[1:, 0] - song.phrases[:-1, 1]
    assert len(song.phrases) > 1
    assert (gaps >= 0.3 - 1e-5).all()
    inner = Excerpt(made, 2.0, 4.0)
    words, times = words_of(inner)
    assert words
    assert (times >= 0).all()
    assert (times <= 4).all()


def test_people_sing_other_syllables_than_are_written() -> None:
    made = Composer(PLAIN, SAMPLE_RATE).song(3)
    assert words_of(made)[0]
    assert words_of(Composed(replace(made.song, as_written=False)))[0] == ()


class One:
    """`Songs`: always the same."""

    def __init__(self, song: object) -> None:
        self._song = song

    def song(self, seed: int) -> object:
        if isinstance(self._song, Exception):
            raise self._song
        return self._song


def test_a_song_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    listener = Listener(Tones())  # type: ignore[arg-type]
    write_songs(tmp_path / "shard.npz", 0, listener, 0, songs=2)
    songs = read_songs(tmp_path / "shard.npz")
    assert len(songs) == 2
    for name, value in vars(listener(0)).items():
        assert np.array_equal(value, getattr(songs[0], name)), name
    assert not np.array_equal(songs[0].sound, listener(0, varied=False).sound)


def test_songs_whose_voice_is_not_apart_are_passed_over(tmp_path: Path) -> None:
    listener = Listener(One(StemsMissing("it is a mix")))  # type: ignore[arg-type]
    assert list(made_of(listener, range(3))) == []
    with pytest.raises(CorpusError, match="backline data prepare"):
        write_songs(tmp_path / "shard.npz", 0, listener, 0, songs=2)


def test_a_pool_reads_what_there_is_and_then_a_shard_at_a_time(tmp_path: Path) -> None:
    listener = Listener(Tones())  # type: ignore[arg-type]
    for number in range(5):
        write_songs(shard_path(tmp_path, number), number, listener, 0, songs=4)
    pool = Pool(tmp_path, enough=8, most=12)
    assert pool.refresh()
    assert len(pool.songs) == 8
    assert pool.refresh()
    assert len(pool.songs) == 12
    newest = pool.songs[-1]
    assert not pool.refresh()
    write_songs(shard_path(tmp_path, 5), 5, listener, 0, songs=4)
    assert pool.refresh()
    assert len(pool.songs) == 12
    assert pool.songs[-5] is newest
    assert (tmp_path / "read-duotok").read_text() == "6"


def test_the_world_of_duotok_has_songs_of_32_seconds_and_more_and_no_test_voice() -> None:
    fastest = DUO.bars * 4 * 60 / DUO.tempi[1]
    assert fastest >= 32
    assert DUO.people
    assert len(DUO.bands) > 300
