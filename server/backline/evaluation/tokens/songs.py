"""Songs as the tokens of every tokenizer, heard once; and the windows that are learnt from and judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from backline.corpus.corpus import CorpusSong
from backline.corpus.multitrack import Composed, Multitrack, voice_and_band
from backline.evaluation.tokens.tokenizers import TRACKS, DualTokenizer, Sound
from backline.music.piece import Piece
from backline.music.world import WIDE

# What songs are composed in unless a command says otherwise: all styles, keys and singers, none shorter than a window.
WORLD = replace(WIDE, forms=("song", "aaba", "blues"))
LONGEST_WINDOWS = 2  # of a song that are heard

Codes = Mapping[str, Tensor]  # by track, int32 [codebook, frame]


@dataclass(frozen=True)
class Heard:
    """The beginning of a song, as sound."""

    song: Multitrack
    seconds: float  # at most

    def tracks(self, sample_rate: int) -> dict[str, Sound]:
        """[sample] by track."""
        return dict(zip(TRACKS, voice_and_band(self.song, sample_rate, 0.0, self.seconds), strict=True))


@dataclass(frozen=True)
class TokenSong:
    """The beginning of a song, as tokens."""

    title: str
    seconds: float
    codes: Mapping[str, Codes]  # by tokenizer
    piece: Piece | None  # of a composed one, with all that is true of it
    beat_seconds: float | None  # None: nobody knows its tempo
    bar_seconds: float | None

    def frames(self, tokenizer: str) -> int:
        return min(codes.shape[1] for codes in self.codes[tokenizer].values())


@dataclass(frozen=True)
class Place:
    """Where a window begins."""

    song: TokenSong
    begin: float  # seconds

    def codes(self, tokenizer: DualTokenizer, seconds: float) -> Codes:
        """Of the window, by track [codebook, frame]."""
        first = int(self.begin * tokenizer.frame_rate)
        frames = window_frames(tokenizer, seconds)
        return {track: codes[:, first : first + frames] for track, codes in self.song.codes[tokenizer.name].items()}


def window_frames(tokenizer: DualTokenizer, seconds: float) -> int:
    return int(seconds * tokenizer.frame_rate)


def heard(songs: Iterable[Multitrack], window: float) -> Iterator[Heard]:
    """The beginnings of songs, as long as LONGEST_WINDOWS windows and a little."""
    for song in songs:
        yield Heard(song, LONGEST_WINDOWS * window + 1)


def tokenized(
    song: Heard,
    tokenizers: Sequence[DualTokenizer],
    listen: Callable[[DualTokenizer, Mapping[str, Sound], Codes], None] = lambda tokenizer, sounds, codes: None,
) -> TokenSong:
    """All tokens of a song.

    Args:
        listen: is shown each tokenizer's codes beside the sounds [sample] by track, which are not kept.
    """
    sounds: dict[int, dict[str, Sound]] = {}
    found: dict[str, Codes] = {}
    for tokenizer in tokenizers:
        own = {}
        for track in TRACKS:
            rate = tokenizer.tracks[track].sample_rate
            if rate not in sounds:
                sounds[rate] = song.tracks(rate)
            own[track] = sounds[rate][track]
        found[tokenizer.name] = {track: tokenizer.encode(track, own[track]) for track in TRACKS}
        listen(tokenizer, own, found[tokenizer.name])
    piece = song.song.song.piece if isinstance(song.song, Composed) else None
    beat, bar = _metre(song.song)
    return TokenSong(song.song.title, min(song.seconds, song.song.seconds), found, piece, beat, bar)


def long_enough(songs: Iterable[TokenSong], tokenizers: Sequence[DualTokenizer], window: float) -> list[TokenSong]:
    """Those of which every tokenizer has a whole window."""
    return [song for song in songs if all(song.frames(each.name) >= window_frames(each, window) for each in tokenizers)]


def windows(songs: Sequence[TokenSong], window: float) -> list[Place]:
    """Consecutive windows of songs that are long enough."""
    return [Place(song, number * window) for song in songs for number in range(max(1, int(song.seconds / window)))]


def drawn(songs: Sequence[TokenSong], window: float, count: int, seed: int) -> list[Place]:
    """Windows from anywhere in songs that are long enough: the same seconds for whatever tokenizer hears them."""
    random = np.random.default_rng(seed)
    chosen = random.integers(len(songs), size=count)
    return [Place(songs[at], float(random.uniform(0, max(0.0, songs[at].seconds - window)))) for at in chosen]


def _metre(song: Multitrack) -> tuple[float | None, float | None]:
    """Seconds of a beat and of a bar, as far as they are known; a corpus knows tempi alone, and bars are of four."""
    if isinstance(song, Composed):
        beat = song.song.piece.seconds_per_beat
        return beat, beat * song.song.piece.beats_per_bar
    if isinstance(song, CorpusSong) and song.entry.labels is not None and song.entry.labels.tempo is not None:
        beat = 60 / song.entry.labels.tempo.beats_per_minute
        return beat, 4 * beat
    return None, None
