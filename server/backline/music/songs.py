"""A song in one call: composed, rendered, sung, with everything that is true of it. What training hears."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backline.music.composer import compose
from backline.music.people import people_sing, sings_as_written
from backline.music.piece import Piece
from backline.music.production import Production, produce
from backline.music.render import Gear, render
from backline.music.seeds import purpose
from backline.music.singer import sing
from backline.music.theory import Chord
from backline.music.world import NARROW, World

CEILING = 0.95  # of the mix


@dataclass(frozen=True)
class Song:
    """Audio is mono float32 [sample], all of one length; the mix, vocal + accompaniment, does not clip."""

    piece: Piece
    sample_rate: int
    vocal: NDArray[np.float32]
    accompaniment: NDArray[np.float32]  # the sum of the stems
    stems: dict[str, NDArray[np.float32]]  # by the names of world.PARTS
    as_written: bool = True  # the voice sings the syllables of the piece's notes

    @property
    def mix(self) -> NDArray[np.float32]:
        return self.vocal + self.accompaniment

    @property
    def beat_seconds(self) -> NDArray[np.float64]:
        """When the beats fall [beat]; every piece.beats_per_bar-th, from the first, begins a bar."""
        return np.arange(self.piece.beats, dtype=np.float64) * self.piece.seconds_per_beat

    @property
    def chords(self) -> tuple[Chord, ...]:
        """The chord that sounds on each beat."""
        spans = self.piece.chords
        return tuple(
            next(span.chord for span in reversed(spans) if span.start <= beat) for beat in range(self.piece.beats)
        )

    def chord_at(self, frame_rate: float) -> NDArray[np.int64]:
        """Chord.index [frame] at the centre of each frame."""
        return self.piece.chord_at(self._frames(frame_rate), frame_rate)

    def beat_at(self, frame_rate: float) -> NDArray[np.float64]:
        """Position in beats from the start [frame], at the centre of each frame: what a host's transport would say."""
        return self.piece.beat_at(self._frames(frame_rate), frame_rate)

    def _frames(self, frame_rate: float) -> int:
        return int(len(self.vocal) / self.sample_rate * frame_rate)


def song(seed: int, world: World = NARROW, sample_rate: int = 24_000) -> Song:
    """The song of that seed in that world: the same samples whenever and wherever it is asked for.

    Raises:
        FluidSynthMissing: FluidSynth or its sound font is not installed.
        KitsMissing: the world is produced, and a kit, a SoundFont or Pedalboard is not installed.
        TunesMissing: the world has tunes in it, and they are not installed.
        VoicesMissing: the world has people in it, and their recordings or the vocoder are not installed.
    """
    piece = compose(seed, world)
    plan = Production.draw(seed, purpose(seed)) if world.produced else None
    stems = render(piece, sample_rate, plan.gear if plan else Gear())
    if world.people:
        vocal = people_sing(piece, sample_rate, world.cast)
    else:
        vocal = sing(piece.melody, piece.tempo, piece.seconds, sample_rate, seed, piece.voice)
    if plan:
        vocal, stems = produce(piece, vocal, stems, plan, sample_rate)
    peak = float(np.abs(vocal + stems.accompaniment).max(initial=0.0))
    gain = np.float32(min(1.0, CEILING / peak)) if peak else np.float32(1)
    return Song(
        piece,
        sample_rate,
        vocal * gain,
        stems.accompaniment * gain,
        {part: stem * gain for part, stem in stems.parts.items()},
        as_written=not world.people or sings_as_written(piece, world.cast),
    )
