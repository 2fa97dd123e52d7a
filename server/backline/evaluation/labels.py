"""How good the labels of `backline data label` are: against what is true of composed songs, as the field measures it.

Two rows: songs whose stems are apart, and the same songs as a mix alone. Columns, all shares of 1:

| column | what it is |
|---|---|
| tempo | songs within 4 % of the tempo (Gouyon et al., 2006) |
| tempo or double | likewise, where the half, the double, a third and three times of it are right as well |
| beats F | F-measure of beats within 70 ms (mir_eval.beat) |
| key, key weighted | songs in the right key; MIREX's score, in which a fifth off counts .5, the relative .3 |
| chords | share of time with the right triad (mir_eval.chord) |
| f0 | share of the sung frames within 50 cents |
| voice F | F-measure of the frames with a voice |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mir_eval
import numpy as np
from numpy.typing import NDArray

from backline.corpus.labels import Heard
from backline.corpus.manifest import KeyEstimate, TempoEstimate
from backline.corpus.multitrack import Composed, Multitrack, Sound, mixture
from backline.corpus.stem_names import MIX
from backline.corpus.trackers import Found, Tools, listen
from backline.evaluation.accompaniment import Say
from backline.measures.report import Figure, Row
from backline.music.labels import beats, chord_spans
from backline.music.piece import Piece
from backline.music.seeds import TEST_SEED
from backline.music.singer import CONTROL_RATE, PITCH, VOICING, control_curves
from backline.music.songs import song
from backline.music.world import World
from backline.sound_files import Audio

SAMPLE_RATE = 24_000  # Hz: that songs are made at
TEMPO_TOLERANCE = 0.04
OCTAVES = (1 / 3, 1 / 2, 1, 2, 3)
CENTS = 50.0
SUNG = 0.1  # of the control curve of voicing
FRAME_RATE = 100  # frames a second, in which voice is compared
APART, ALONE = "stems apart", "mix alone"
KINDS = ("tempo", "beats", "key", "chords", "voice", "f0")
NOTES = ("composed songs keep their tempo and are sung by formants: real ones are harder",)


@dataclass(frozen=True)
class _MixAlone:
    """A song as whoever has no stems of it knows it."""

    song: Multitrack
    labels = {MIX: MIX}  # noqa: RUF012

    @property
    def title(self) -> str:
        return self.song.title

    @property
    def seconds(self) -> float:
        return self.song.seconds

    def read(self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
        return mixture(self.song, sample_rate, begin, seconds)


def evaluate_labels(pieces: int, world: World, f0: str, say: Say) -> Mapping[str, Row]:
    """Rows of songs that no training hears.

    Raises:
        ValueError: people sing in the world, whose pitch nobody knows.
    """
    if world.people:
        raise ValueError("people sing in this world, and nobody knows their pitch: choose another --world")
    scores: dict[str, list[dict[str, float]]] = {APART: [], ALONE: []}
    for number in range(pieces):
        say("hears songs", number / pieces)
        composed = song(TEST_SEED + number, world, SAMPLE_RATE)
        for name, heard in ((APART, Composed(composed)), (ALONE, _MixAlone(Composed(composed)))):
            scores[name].append(label_scores(composed.piece, listen(heard, KINDS, Tools(f0))))
    rows = {}
    for name, found in scores.items():
        columns = dict.fromkeys(column for each in found for column in each)
        rows[name] = {column: Figure.of([each[column] for each in found if column in each]) for column in columns}
    return rows


def label_scores(piece: Piece, found: Found) -> dict[str, float]:
    """The columns for one song; of what was not looked for there is none, and what was not found counts 0."""
    heard, scores = found.as_heard(), {}
    tempo, key = found.estimates.get("tempo"), found.estimates.get("key")
    true_tempo = piece.tempo / piece.metre.pulse
    ratio = tempo.beats_per_minute / true_tempo if isinstance(tempo, TempoEstimate) else 0.0
    scores["tempo"] = float(abs(ratio - 1) <= TEMPO_TOLERANCE)
    scores["tempo or double"] = float(any(abs(ratio / octave - 1) <= TEMPO_TOLERANCE for octave in OCTAVES))
    scores["beats F"] = _beats_f(piece, heard)
    scores["key"] = float(isinstance(key, KeyEstimate) and key.key == piece.key.name)
    scores["key weighted"] = (
        float(mir_eval.key.weighted_score(piece.key.name, key.key)) if isinstance(key, KeyEstimate) else 0.0
    )
    scores["chords"] = _chord_overlap(piece, heard)
    sung, pitch = _sung(piece)
    if heard.f0 is not None:
        scores["f0"] = _pitch_accuracy(heard, sung, pitch)
    scores["voice F"] = _voice_f(heard, sung, piece.seconds)
    return scores


def _beats_f(piece: Piece, heard: Heard) -> float:
    true = mir_eval.beat.trim_beats(np.array([second for second, _ in beats(piece)]))
    found = mir_eval.beat.trim_beats(np.array(heard.beats))
    return float(mir_eval.beat.f_measure(true, found)) if len(found) and len(true) else 0.0


def _chord_overlap(piece: Piece, heard: Heard) -> float:
    if not heard.chords:
        return 0.0
    true = chord_spans(piece)
    spans, names = np.array([span[:2] for span in true]), [name for _, _, name in true]
    found, found_names = mir_eval.util.adjust_intervals(
        np.array([span[:2] for span in heard.chords]),
        [name for _, _, name in heard.chords],
        spans.min(),
        spans.max(),
        "N",
        "N",
    )
    both, wanted, told = mir_eval.util.merge_labeled_intervals(spans, names, found, found_names)
    right = mir_eval.chord.triads(wanted, told)
    return float(mir_eval.chord.weighted_accuracy(right, mir_eval.util.intervals_to_durations(both)))


def _sung(piece: Piece) -> tuple[NDArray[np.bool_], Sound]:
    """Where the singer sings, and which pitch in Hz [row, CONTROL_RATE a second]."""
    curves = control_curves(piece.melody, piece.tempo, piece.seconds, piece.seed, piece.voice)
    return curves[:, VOICING] > SUNG, (440 * 2 ** ((curves[:, PITCH] - 69) / 12)).astype(np.float32)


def _pitch_accuracy(heard: Heard, sung: NDArray[np.bool_], pitch: Sound) -> float:
    """mir_eval's raw pitch accuracy: a sung frame without a pitch is wrong."""
    assert heard.f0 is not None
    hertz = np.array(heard.f0.hertz)
    rows = np.round(np.arange(len(hertz)) / heard.f0.rate * CONTROL_RATE).astype(int)
    rows = rows[rows < len(sung)]
    hertz = hertz[: len(rows)]
    cents = 1200 * np.log2(np.maximum(hertz, 1e-3) / pitch[rows])
    right = (hertz > 0) & (np.abs(cents) <= CENTS)
    return float(right[sung[rows]].mean()) if sung[rows].any() else 1.0


def _voice_f(heard: Heard, sung: NDArray[np.bool_], seconds: float) -> float:
    times = (np.arange(int(seconds * FRAME_RATE)) + 0.5) / FRAME_RATE
    true = sung[np.minimum((times * CONTROL_RATE).astype(int), len(sung) - 1)]
    found = np.zeros(len(times), bool)
    for begin, end in heard.voice:
        found |= (times >= begin) & (times < end)
    both = float((true & found).sum())
    return 2 * both / max(1.0, float(true.sum() + found.sum()))
