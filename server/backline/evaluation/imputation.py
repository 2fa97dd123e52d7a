"""How well what is asked for joins in: MGE-LDM's imputation, beside the stem that was taken out and what chance gives.

Out of every song each stem with a name is taken, and asked for by it, in the paper's phrase; drums and bass together as
well, one after the other (Equation 4). Rows, for groups of stems each:
- imputed: what joins in; VAE: the true stem through the VAE, so the most that latents can say;
- true: the stem that was taken out; silence: nothing in its place;
- shuffled: what was imputed in another of the songs; another song's: the true stem of that one.
Columns: sub-FAD, the distance of given and imputed together to the whole songs (Section 3); onsets as the true stem has
them; notes, of all but drums: in the song's key, and alike to the true stem's; and the level beside the true stem's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backline.corpus.labelled import stems_of
from backline.corpus.multitrack import Composed, Multitrack
from backline.corpus.stem_names import OTHER, track_of
from backline.evaluation.baselines import derangement, fitted
from backline.evaluation.live import SONG_RATE, Sound
from backline.evaluation.plan import SEEDS_APART, Plan, Say
from backline.evaluation.queried import Impute, asking_for, middle
from backline.evaluation.separation import row_name
from backline.evaluation.separation_baselines import Resynthesise
from backline.measures.chords import chroma_cosine, in_key
from backline.measures.embeddings import Embedding, embedded
from backline.measures.frechet import distance, frames_needed
from backline.measures.keys import key_heard
from backline.measures.level import SILENCE_DBFS, level_dbfs
from backline.measures.report import Figure, Gate, Row
from backline.measures.rhythm import onset_agreement
from backline.music.stems import Stems
from backline.music.theory import Key

RATE = SONG_RATE
ONSETS, IN_KEY, CHROMA, LEVEL = "onsets as the true stem", "in key", "chroma cosine", "level dB"  # columns
IMPUTED, TRUE, VAE, SHUFFLED, SILENCE = "imputed", "true", "VAE", "shuffled", "silence"  # rows
ANOTHER = "another song's"  # row
DRUMS, BASS, COMPING, BOTH = "drums", "bass", "comping", "drums and bass"  # groups, beside vocals

LEAST_ONSETS = 0.75  # of drums
LEAST_IN_KEY = 0.9  # of the true bass's share
LEAST_CHROMA = 0.3  # of bass


@dataclass(frozen=True)
class Piece:
    """A song: stems [stem, sample] at RATE that sum to it."""

    labels: tuple[tuple[str, ...], ...]
    stems: Stems
    key: Key | None  # that is written, or heard where nobody wrote one

    @classmethod
    def of(cls, song: Multitrack) -> Piece:
        if isinstance(song, Composed):
            return cls(*stems_of(song, RATE), song.song.piece.key)
        labels, stems = stems_of(middle(song), RATE)
        return cls(labels, stems, key_heard(stems.sum(axis=0), RATE))

    @property
    def mixed(self) -> Sound:
        mixed: Sound = self.stems.sum(axis=0)
        return mixed

    def targets(self) -> Iterator[tuple[str, list[int]]]:
        """What is taken out: a group, and the stems."""
        tracks = {
            stem: track_of(labels[-1])
            for stem, labels in enumerate(self.labels)
            if labels and level_dbfs(self.stems[stem]) > SILENCE_DBFS
        }
        for stem, track in tracks.items():
            yield COMPING if track == OTHER else track, [stem]
        pair = [stem for track in (DRUMS, BASS) for stem in tracks if tracks[stem] == track]
        if sorted(tracks[stem] for stem in pair) == [BASS, DRUMS]:
            yield BOTH, pair


@dataclass(frozen=True)
class Imputed:
    """One answer."""

    piece: Piece
    taken: list[int]  # the stems in whose place it is
    sound: Sound

    @property
    def true(self) -> Sound:
        true: Sound = self.piece.stems[self.taken].sum(axis=0)
        return true

    @property
    def given(self) -> Sound:
        return self.piece.mixed - self.true


def evaluate_imputation(
    impute: Impute, plan: Plan, resynthesise: Resynthesise, embeddings: Sequence[Embedding], say: Say
) -> tuple[Mapping[str, Row], list[Gate], list[str]]:
    """Rows of figures, gates, and notes on what could not be measured.

    Args:
        impute: what is judged, of sounds at RATE.
        resynthesise: the VAE there and back, at RATE.
    Raises:
        ValueError: there is only one song.
    """
    derangement(plan.count, plan.seed)
    groups: dict[str, list[Imputed]] = {}
    for number, song in enumerate(plan.multitracks()):
        say(f"song {number + 1} of {plan.count}: reading, or composing and rendering", 0.0)
        piece = Piece.of(song)
        targets = list(piece.targets())
        for done, (group, taken) in enumerate(targets):
            say(f"song {number + 1} of {plan.count}: imputing", done / len(targets))
            prompts = [asking_for(piece.labels[stem][0]) for stem in taken]
            given = piece.mixed - piece.stems[taken].sum(axis=0)
            made = impute(given, prompts, plan.seed * SEEDS_APART + number)
            groups.setdefault(group, []).append(Imputed(piece, taken, np.sum(made, axis=0, dtype=np.float32)))
    rows: dict[str, Row] = {}
    notes = plan.notes()
    for done, (group, answers) in enumerate(sorted(groups.items())):
        say(f"judging {group}", done / len(groups))
        for name, sounds in beside(answers, resynthesise, plan.seed).items():
            rows[row_name(name, group)] = {
                **judge(sounds, answers, group), **sub_fad(sounds, answers, embeddings, group, notes)
            }  # fmt: skip
        if len(answers) == 1:
            notes.append(f"{group}: in one song alone, so nothing is shuffled")
    return rows, gates(rows, embeddings), list(dict.fromkeys(notes))


def beside(answers: Sequence[Imputed], resynthesise: Resynthesise, seed: int) -> dict[str, list[Sound]]:
    """All that takes the place of the stems of a group, by its row, in the order of the songs."""
    found = {
        IMPUTED: [each.sound for each in answers],
        VAE: [resynthesise(each.true) for each in answers],
        TRUE: [each.true for each in answers],
        SILENCE: [np.zeros_like(each.sound) for each in answers],
    }
    if len(answers) > 1:
        others = [answers[number] for number in derangement(len(answers), seed)]
        for name, sounds in (
            (SHUFFLED, [other.sound for other in others]),
            (ANOTHER, [other.true for other in others]),
        ):
            found[name] = [fitted(sound, len(one.sound)) for sound, one in zip(sounds, answers, strict=True)]
    return found


def judge(sounds: Sequence[Sound], answers: Sequence[Imputed], group: str) -> Row:
    """Each sound beside the stem in whose place it is: means over the songs."""
    columns: dict[str, list[float]] = {}
    for sound, answer in zip(sounds, answers, strict=True):
        figures = {
            ONSETS: onset_agreement(sound, answer.true, RATE),
            LEVEL: level_dbfs(sound) - level_dbfs(answer.true),
        }
        if group != DRUMS:
            figures[CHROMA] = chroma_cosine(sound, answer.true, RATE)
            if answer.piece.key is not None:
                figures[IN_KEY] = in_key(sound, RATE, answer.piece.key)
        for column, value in figures.items():
            columns.setdefault(column, []).append(value)
    return {column: Figure.of(values) for column, values in columns.items()}


def sub_fad(
    sounds: Sequence[Sound], answers: Sequence[Imputed], embeddings: Sequence[Embedding], group: str, notes: list[str]
) -> Row:
    """How far given and imputed together lie from the whole songs; where that is too little to tell, says so."""
    found: dict[str, Figure] = {}
    for embedding in embeddings:
        whole = embedded(embedding, (answer.piece.mixed for answer in answers), RATE)
        frames, needed = sum(map(len, whole)), frames_needed(embedding.dimensions)
        if frames < needed:
            notes.append(
                f"{group}: no {sub_fad_column(embedding)}: {frames} frames, and it takes at least {needed}: take more "
                "pieces"
            )
            continue
        pairs = zip(sounds, answers, strict=True)
        mixes = embedded(embedding, (answer.given + sound for sound, answer in pairs), RATE)
        far = distance(mixes, whole)
        found[sub_fad_column(embedding)] = Figure(far.whole, far.error)
    return found


def sub_fad_column(embedding: Embedding) -> str:
    return f"sub-FAD ({embedding.name})"


def gates(rows: Mapping[str, Row], embeddings: Sequence[Embedding]) -> list[Gate]:
    """What a pack must reach (MGE.md 9); what no song had has no gate."""
    found: list[Gate] = []
    drums, bass, true = (rows.get(row_name(*row), {}) for row in ((IMPUTED, DRUMS), (IMPUTED, BASS), (TRUE, BASS)))
    if ONSETS in drums:
        onsets = drums[ONSETS].mean
        found.append(Gate(f"drums: {ONSETS}", onsets, f"at least {LEAST_ONSETS}", onsets >= LEAST_ONSETS))
    if IN_KEY in bass:
        share, least = bass[IN_KEY].mean, LEAST_IN_KEY * true[IN_KEY].mean
        found.append(Gate(f"bass: {IN_KEY}", share, f"at least {least:.3g}, .9 of the true bass", share >= least))
    if CHROMA in bass:
        cosine = bass[CHROMA].mean
        found.append(Gate(f"bass: {CHROMA}", cosine, f"at least {LEAST_CHROMA}", cosine >= LEAST_CHROMA))
    for column in map(sub_fad_column, embeddings):
        for name, row in rows.items():
            method, _, group = name.partition(", ")
            chance = rows.get(row_name(SHUFFLED, group), {})
            if method == IMPUTED and column in row and column in chance:
                far, most = row[column].mean, chance[column].mean
                found.append(Gate(f"{group}: {column}", far, f"below shuffled's {most:.3g}", far < most))
    return found


def pictured(impute: Impute, plan: Plan) -> dict[str, Sound]:
    """What to draw of the first song: all of it, as it is and as it is imputed, and each stem likewise."""
    piece = Piece.of(next(plan.multitracks()))
    signals = {"the song": piece.mixed, "imputed": np.zeros_like(piece.mixed)}
    for _, taken in piece.targets():
        if len(taken) == 1:
            name, true = piece.labels[taken[0]][0], piece.stems[taken[0]]
            (made,) = impute(piece.mixed - true, [asking_for(name)], plan.seed * SEEDS_APART)
            signals |= {f"{name}, true": true, f"{name}, imputed": made}
            signals["imputed"] = signals["imputed"] + made
    return signals
