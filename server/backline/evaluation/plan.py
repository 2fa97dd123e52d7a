"""What an evaluation plays: songs to be judged by, composed or from the disk, and how many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backline.corpus.multitrack import Composed, Multitrack
from backline.corpus.songs import Composer, Songs
from backline.music.seeds import TEST_SEED
from backline.music.songs import Song
from backline.music.world import World

SEEDS_APART = 1 << 20  # between the sampling seeds of two runs; a piece takes one

Say = Callable[[str, float], None]  # what is being done, and which share of it is done


@dataclass(frozen=True)
class Plan:
    """What is played. No trainer hears or chooses by these songs."""

    songs: Songs
    pieces: int = 24  # at most
    seed: int = 0  # of sampling and shuffling; the pieces are always the same
    pool: int = 512  # training songs that retrieval chooses from

    @property
    def count(self) -> int:
        """How many pieces are judged: as many as are wanted, or as there are."""
        there = self.songs.test_songs()
        return self.pieces if there is None else min(self.pieces, there)

    def notes(self) -> list[str]:
        """Says so where there are fewer than are wanted."""
        if self.count == self.pieces:
            return []
        return [f"{self.pieces} pieces were asked for, and there are {self.count} to judge by: all were taken"]

    def multitracks(self) -> Iterator[Multitrack]:
        """One after the other.

        Raises:
            CorpusError: there is none.
        """
        for number in range(max(1, self.count)):
            yield self.songs.song(TEST_SEED + number)

    @property
    def world(self) -> World:
        """In which the pieces are composed.

        Raises:
            ValueError: they are not.
        """
        if not isinstance(self.songs, Composer):
            raise ValueError("this is measured on composed songs alone: leave --songs out")
        return self.songs.world

    def composed(self, say: Say) -> list[Song]:
        """The pieces with all that their composer knows of them.

        Raises:
            ValueError: they are not composed.
        """
        found = []
        for number, one in enumerate(self.multitracks()):
            if not isinstance(one, Composed):
                raise ValueError(f"{one.title} has no score: this is measured on composed songs alone")
            say("composing and rendering", number / self.count)
            found.append(one.song)
        return found
