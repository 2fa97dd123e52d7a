"""Songs as DuoTok's tokenizer learns from them: voice and band, and what is true of them, written by a side process.

A song's stems come in other levels and colours each time. What its rows need is measured here, once: the power of every
pitch class, the stems' mel bands, of which masks are made, and the words with their times.

listener = Listener(songs)
with producer(folder, partial(write_songs, listener=listener, seed=0)):
    pool = Pool(folder)
    pool.refresh()
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from backline.codecs.harmony import HarmonyFeatures
from backline.corpus.corpus import CorpusSong
from backline.corpus.manifest import SAMPLE_RATE as CORPUS_RATE
from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import (
    TRACKS,
    Composed,
    Excerpt,
    Multitrack,
    four_tracks,
    has_four_tracks,
    has_voice_and_band,
    made_of,
    mixture,
    mono,
    voice_and_band,
)
from backline.corpus.pair_tokens import read_tokens, write_tokens
from backline.corpus.separator import Separator, SeparatorPack
from backline.corpus.songs import Songs
from backline.corpus.stem_names import track_of
from backline.kernels.chroma import BASS, TREBLE
from backline.music.seeds import training_seed
from backline.nn.mel import mel_filters
from backline.training.augmentation import vary_equalization
from backline.training.tokens import await_shard, check_producer, note_read

SAMPLE_RATE = 24_000
FRAME = 960  # samples of a token
MEL_HOP, MELS_PER_FRAME = 240, 4
SIDES = ("voice", "band")
MASK_BANDS, MASK_WINDOW = 64, 1024  # of the mel bands in which masks are told
FULL_SCALE = 16_384  # of what is kept in 16 bits: equalized sounds may be twice as loud as full scale
EQUALIZED = 4.0  # dB at most, either way
BREATH = 0.3  # seconds without a note between two phrases, at least
QUIET = 1e-4  # power of a pitch class that fades to silence: that of kernels/chroma.py's floor
SONGS_PER_SHARD = 4
READER = "duotok"
SEPARATED = CORPUS_RATE  # samples of a block that a teacher is given


@dataclass(frozen=True)
class DuoSong:
    """A song, cut to whole tokens. Times are seconds."""

    sound: NDArray[np.int16]  # [side, sample], FULL_SCALE is 1
    tones: NDArray[np.float32]  # [side, frame, pitch class], powers
    levels: NDArray[np.float16]  # [track, band, mel frame], magnitudes by the order of TRACKS; no track: not known
    words: tuple[str, ...]
    times: NDArray[np.float32]  # [word, begin and end]
    phrases: NDArray[np.float32]  # [phrase, begin and end], where somebody sings
    chords: NDArray[np.int8]  # [frame] Chord.index; empty where nobody has written them

    @property
    def frames(self) -> int:
        return self.sound.shape[1] // FRAME

    def audio(self, first: int, frames: int) -> NDArray[np.float32]:
        """[side, sample] of so many frames from number `first` on; silence after the end."""
        cut = self.sound[:, first * FRAME : (first + frames) * FRAME].astype(np.float32) / FULL_SCALE
        return np.pad(cut, ((0, 0), (0, frames * FRAME - cut.shape[1])))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As a file has it."""
        return {**vars(self), "words": np.array(self.words, dtype=str)}

    @classmethod
    def of(cls, arrays: dict[str, NDArray[Any]]) -> DuoSong:
        return cls(**{**arrays, "words": tuple(map(str, arrays["words"]))})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Listener:
    """What makes a `DuoSong` of the song of a seed; picklable."""

    songs: Songs
    teacher: SeparatorPack | None = None  # who tells four tracks in songs of which voice and band alone are known

    def __call__(self, seed: int, varied: bool = True) -> DuoSong:
        """The song; `varied` in the colours of its stems.

        Raises:
            CorpusError: there is none, or the teacher cannot be loaded.
            StemsMissing: its voice and its band are not apart.
        """
        draw = np.random.default_rng([seed, 0xD00])
        song = self.songs.song(seed)
        tracks, sides = self.tracks(song, draw if varied else None)
        whole = sides.shape[1] // FRAME * FRAME
        sides, tracks = sides[:, :whole], tracks[:, :whole]
        words, times = words_of(song)
        return DuoSong(
            sound=np.clip(np.round(sides * FULL_SCALE), -32_768, 32_767).astype(np.int16),
            tones=np.stack([tones(side) for side in sides]),
            levels=levels(tracks),
            words=words,
            times=times,
            phrases=phrases_of(song, times),
            chords=chords_of(song, whole // FRAME),
        )

    def tracks(self, song: Multitrack, draw: Generator | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The four tracks, or none [track, sample], and voice and band [side, sample]."""

        def coloured(sounds: NDArray[np.float32]) -> NDArray[np.float32]:
            if draw is None:
                return sounds
            return np.stack([vary_equalization(sound, SAMPLE_RATE, draw, EQUALIZED) for sound in sounds])

        if has_four_tracks(song):
            tracks = coloured(four_tracks(song, SAMPLE_RATE))
            return tracks, np.stack([tracks[0], tracks[1:].sum(axis=0)])
        sides = coloured(np.stack(voice_and_band(song, SAMPLE_RATE)))
        return separated(self.teacher, song, sides.shape[1]), sides


def can_be_learnt(song: Multitrack) -> bool:
    """Whether it can be told which of it is the voice."""
    return has_voice_and_band(song) or has_four_tracks(song)


@cache
def _loaded(teacher: SeparatorPack) -> Separator:
    """Once in a process."""
    return teacher.load()


def separated(teacher: SeparatorPack | None, song: Multitrack, samples: int) -> NDArray[np.float32]:
    """What a teacher hears of the four tracks [track, sample]; without one nothing [0, sample]."""
    if teacher is None:
        return np.zeros((0, samples), np.float32)
    import soxr

    mix = mixture(song, CORPUS_RATE)
    blocks = (mix[:, at : at + SEPARATED] for at in range(0, mix.shape[1], SEPARATED))
    found: dict[str, list[NDArray[np.float32]]] = {track: [] for track in TRACKS}
    for stems in _loaded(teacher).separate(blocks, mix.shape[0]):
        for label, block in stems.items():
            found[track_of(label)].append(mono(block))
    if lacking := [track for track in TRACKS if not found[track]]:
        raise CorpusError(
            f"{teacher.name} tells no {', '.join(lacking)}, which masks are made of: use a pack of four stems, as stems"
        )
    tracks = [soxr.resample(np.concatenate(found[track]), CORPUS_RATE, SAMPLE_RATE) for track in TRACKS]
    return np.stack([np.pad(track[:samples], (0, max(0, samples - len(track)))) for track in tracks])


# ---- what is true of a song ----


def tones(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """[frame, pitch class]: powers of a sound [frame * FRAME], those of bass and treble together.

    The features of kernels/chroma.py are shares of their sum and a floor, which is undone: powers of sounds add up.
    """
    features = HarmonyFeatures()(torch.from_numpy(np.ascontiguousarray(sound))[None, None])[0].numpy()
    found = np.zeros((len(features), 12))
    for group in (BASS, TREBLE):
        shares = np.square(features[:, group].astype(np.float64))
        found += shares * QUIET / np.maximum(1 - shares.sum(axis=1, keepdims=True), 1e-6)
    return found.reshape(-1, 2, 12).mean(axis=1).astype(np.float32)


def levels(tracks: NDArray[np.float32]) -> NDArray[np.float16]:
    """[track, band, mel frame]: magnitudes in mel bands of tracks [track, sample]."""
    hops = tracks.shape[1] // MEL_HOP
    edge = (MASK_WINDOW - MEL_HOP) // 2
    filters, shape = mel_filters(MASK_BANDS, MASK_WINDOW, SAMPLE_RATE), torch.hann_window(MASK_WINDOW)
    found = np.zeros((len(tracks), MASK_BANDS, hops), np.float16)
    for at, track in enumerate(tracks):
        padded = torch.nn.functional.pad(torch.from_numpy(track), (edge, edge))
        spectra = torch.fft.rfft(padded.unfold(0, MASK_WINDOW, MEL_HOP) * shape).abs()
        found[at] = (spectra @ filters.T).T.half().numpy()
    return found


def words_of(song: Multitrack) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """What is sung, by words or syllables, and when [word, begin and end]; nothing where it is not known.

    Raises:
        CorpusError: a corpus' labels are damaged.
    """
    found = sorted((begin, end, text) for begin, end, text in _words(song) if text.strip() and end > begin >= 0)
    times = np.array([(begin, end) for begin, end, _ in found], np.float32).reshape(-1, 2)
    return tuple(text for _, _, text in found), times


def _words(song: Multitrack) -> Iterator[tuple[float, float, str]]:
    if isinstance(song, Excerpt):
        for begin, end, text in _words(song.song):
            if begin >= song.begin and end <= song.begin + song.seconds:
                yield begin - song.begin, end - song.begin, text
    elif isinstance(song, Composed) and song.song.as_written:
        beat = song.song.piece.seconds_per_beat
        for note in song.song.piece.melody:
            if note.syllable:
                yield note.start * beat, (note.start + note.length) * beat, note.syllable
    elif isinstance(song, CorpusSong) and has_words(song):
        yield from song.heard().lyrics


def has_words(song: Multitrack) -> bool:
    """Whether it is a corpus' song whose words somebody has heard."""
    labels = song.entry.labels if isinstance(song, CorpusSong) else None
    return labels is not None and labels.lyrics is not None


def phrases_of(song: Multitrack, words: NDArray[np.float32]) -> NDArray[np.float32]:
    """[phrase, begin and end]: where somebody sings without a pause, by the notes, by labels, or by the words."""
    spans = list(_sung(song)) or [(float(begin), float(end)) for begin, end in words]
    found: list[list[float]] = []
    for begin, end in sorted(spans):
        if found and begin - found[-1][1] < BREATH:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([begin, end])
    return np.array(found, np.float32).reshape(-1, 2)


def _sung(song: Multitrack) -> Iterator[tuple[float, float]]:
    if isinstance(song, Excerpt):
        for begin, end in _sung(song.song):
            begin, end = max(begin, song.begin) - song.begin, min(end, song.begin + song.seconds) - song.begin
            if end > begin:
                yield begin, end
    elif isinstance(song, Composed):
        beat = song.song.piece.seconds_per_beat
        yield from ((note.start * beat, (note.start + note.length) * beat) for note in song.song.piece.melody)
    elif isinstance(song, CorpusSong) and song.entry.labels is not None:
        yield from song.heard().voice


def chords_of(song: Multitrack, frames: int) -> NDArray[np.int8]:
    """[frame] Chord.index of a composed song; of others nothing [0]."""
    if not isinstance(song, Composed):
        return np.zeros(0, np.int8)
    return song.song.piece.chord_at(frames, SAMPLE_RATE / FRAME).astype(np.int8)


# ---- files ----


def write_songs(path: Path, number: int, listener: Listener, seed: int, songs: int = SONGS_PER_SHARD) -> None:
    """Shard `number` of a training run. Songs of a corpus whose voice is not apart are passed over."""
    first = training_seed(seed, number * songs)
    made = [song.arrays() for song in made_of(listener, range(first, first + songs))]
    if not made:
        raise CorpusError("no song has a voice that is apart from its band: `backline data prepare` separates them")
    write_tokens(path, made)


def read_songs(path: Path) -> list[DuoSong]:
    """The songs of a shard."""
    return [DuoSong.of(arrays) for arrays in read_tokens(path)]


class Pool:
    """The newest songs of a folder of shards. All that are there are read at first, then one shard at a time, so that
    the side process, which stays a little ahead, leaves most of a core to the trainer.
    """

    def __init__(self, folder: Path, enough: int = 96, most: int = 240) -> None:
        """
        Args:
            enough: songs up to which every shard is read as soon as it is there.
            most: songs that stay at hand.
        """
        self.folder, self.enough, self.most = folder, enough, most
        there = sum(1 for _ in folder.glob("shard-*.npz"))  # they come in order
        self.number = max(0, there - most // SONGS_PER_SHARD)
        self.songs: list[DuoSong] = []

    def refresh(self) -> bool:
        """Reads what has come, and says whether there was any; waits where there is no song yet.

        Raises:
            RuntimeError: the side process that writes them has failed: old songs alone would be learnt by heart.
        """
        check_producer(self.folder)
        there, before = sum(1 for _ in self.folder.glob("shard-*.npz")), self.number
        while not self.songs or (self.number < there and (len(self.songs) < self.enough or self.number == before)):
            self.songs = [*self.songs, *read_songs(await_shard(self.folder, self.number))][-self.most :]
            self.number += 1
            note_read(self.folder, READER, self.number)
        return self.number > before
