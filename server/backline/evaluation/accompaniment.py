"""How well a pack accompanies: generated live on held-out songs, beside what it could reach and what chance would.

Rows, each judged by the songs that were sung:
- generated: what the pack plays, chunk by chunk;
- offline: the same in one chunk as long as the piece, all of the voice heard before: the papers' layout;
- reference: the true accompaniments; codec: the same through the pack's codec, so the most that it can say;
- shuffled: what the pack played to another of the pieces; retrieval: a training song of the key and nearest tempo.

Chords, key and beats are compared with a score, which composed songs have. What needs none is measured of all songs:
the scale and the onsets that band and voice share, their levels, the true band, and Frechet audio distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from backline.codecs.base import Codec
from backline.corpus.multitrack import Composed, Excerpt, Multitrack, voice_and_band
from backline.corpus.stem_names import VOCALS
from backline.evaluation.baselines import Pool, derangement, fitted, separated_vocal, through_codec
from backline.evaluation.live import Setting, Sound, Take, at_rate, piece_take, play, song_rate
from backline.evaluation.plan import SEEDS_APART, Plan, Say
from backline.evaluation.separation_baselines import Finder
from backline.measures.chords import chord_match, chroma_cosine, in_key, scale_shares
from backline.measures.embeddings import Embedding, embedded
from backline.measures.frechet import Distance, VocalGap, distance, frames_needed
from backline.measures.level import level_dbfs
from backline.measures.report import Figure, Gate, Row
from backline.measures.rhythm import onset_agreement, onset_f, onsets_met
from backline.models.stream import Stream
from backline.music.songs import Song, song
from backline.music.stems import SAMPLE_RATE

CHORDS, IN_KEY, CHROMA = "chord match", "in key", "chroma cosine"  # columns
ONSETS, RHYTHM, LEVEL = "onset F", "onsets as reference", "level (dBFS)"
IN_SCALE, OWN_SCALE = "on the voice's scale", "on its own scale"
TOGETHER, OVER = "voice's onsets met", "over voice (dB)"
GENERATED, REFERENCE, SHUFFLED = "generated", "reference", "shuffled"  # rows

LONGEST_SECONDS = 60.0  # of a song that are played to: those in which the voice is loudest
ORACLE = "an oracle's mask"
ISOLATED = "FAD_i, isolated voice"  # row


@dataclass(frozen=True)
class Sung:
    """A piece to be accompanied, mono at one rate."""

    vocal: Sound
    band: Sound  # the true one
    sample_rate: int
    score: Song | None  # of a composed one

    @classmethod
    def of(cls, song: Multitrack, sample_rate: int) -> Sung:
        score = song.song if isinstance(song, Composed) else None
        heard = song if score is not None or song.seconds <= LONGEST_SECONDS else loudest(song, LONGEST_SECONDS)
        return cls(*voice_and_band(heard, sample_rate), sample_rate, score)

    @property
    def seconds(self) -> float:
        return len(self.vocal) / self.sample_rate

    def take(self, seed: int) -> Take:
        """With what a host knows of it: nothing, where there is no score."""
        return Take(self.vocal, seed) if self.score is None else piece_take(self.score.piece, self.vocal, seed)


def evaluate_accompaniment(
    stream: Stream,
    codec: Codec | None,
    plan: Plan,
    setting: Setting,
    embeddings: Sequence[Embedding],
    separators: Mapping[str, Finder],
    say: Say,
) -> tuple[Mapping[str, Row], list[Gate], list[str]]:
    """Rows of figures, gates where there are scores, and notes on what could not be measured.

    Args:
        codec: the pack's own; without one there is no such row.
        separators: what cuts the voice out of the mix for FAD_s, by name; an oracle's mask does so as well.
    Raises:
        ValueError: too few pieces to shuffle, or a pool without the key of a piece.
    """
    pairs = derangement(plan.count, plan.seed)
    rate = song_rate(stream.spec)
    songs = sung(plan, rate, say)
    generated = generate(stream, songs, plan.seed, setting, say, "live")
    found = {
        GENERATED: generated,
        "offline": generate_offline(stream, songs, plan.seed, setting, say),
        REFERENCE: [one.band for one in songs],
        "codec": through_codec(codec, [one.band for one in songs], rate) if codec is not None else [],
        SHUFFLED: [generated[other] for other in pairs],
        "retrieval": retrieved(plan, songs, rate),
    }
    rows: dict[str, dict[str, Figure]] = {}
    played: dict[str, list[Sound]] = {}  # each as long as its voice
    for number, (name, sounds) in enumerate(found.items()):
        if sounds:
            say(f"judging {name}", number / len(found))
            played[name] = [fitted(sound, len(one.vocal)) for sound, one in zip(sounds, songs, strict=True)]
            rows[name] = judge(played[name], songs)
    scored = all(one.score is not None for one in songs)
    judged = gates(rows) if scored else []
    notes = plan.notes()
    if not scored:
        notes.append(
            f"no score: chords, key and beat are not judged, nothing is retrieved by them, and of a song at most the "
            f"{LONGEST_SECONDS:g} s are heard in which the voice is loudest"
        )
    measured = [one for one in embeddings if enough(one, played[REFERENCE], rate, notes)]
    if not measured:
        return rows, judged, notes
    for name, separate in {ORACLE: None, **separators}.items():
        vocals = [separated(one, separate, plan.seed * SEEDS_APART + number) for number, one in enumerate(songs)]
        cut_out = [replace(one, vocal=vocal) for one, vocal in zip(songs, vocals, strict=True)]
        played[separated_row(name)] = generate(stream, cut_out, plan.seed, setting, say, f"to a voice of {name}")
    for embedding in measured:
        for what, sounds_of in (("", lambda bands: bands), (" of the mix", lambda bands: mixes(songs, bands))):
            column = f"FAD{what} ({embedding.name})"
            say(f"embedding: {column}", 0.0)
            sets = {name: embedded(embedding, sounds_of(bands), rate) for name, bands in played.items()}
            far = {name: distance(frames, sets[REFERENCE]) for name, frames in sets.items() if name != REFERENCE}
            for name, each in far.items():
                rows.setdefault(name, {})[column] = Figure(each.whole, each.error)
            rows.setdefault(ISOLATED, {})[column] = rows[GENERATED][column]
            for name in (ORACLE, *separators):
                gap = VocalGap(far[GENERATED], far[separated_row(name)]).gap
                rows.setdefault(f"FAD gap, {name}", {})[column] = Figure(gap.whole, gap.error)
            notes += [said] if (said := cannot_tell(column, far[GENERATED], far[SHUFFLED])) else []
    frames = sum(len(sound) for sound in played[GENERATED]) / rate / 0.96
    notes.append(f"FAD of about {frames:.0f} frames in every set; compare only with as many")
    return rows, judged, notes


def separated_row(separator: str) -> str:
    return f"FAD_s, {separator}"


def sung(plan: Plan, sample_rate: int, say: Say) -> list[Sung]:
    """The pieces that are judged."""
    found = []
    for number, one in enumerate(plan.multitracks()):
        say("reading, or composing and rendering", number / plan.count)
        found.append(Sung.of(one, sample_rate))
    return found


def loudest(song: Multitrack, seconds: float) -> Excerpt:
    """The excerpt in which the voice is loudest, to a second."""
    rate = 8_000  # enough to tell
    voice, _ = voice_and_band(song, rate)
    powers = np.square(voice[: len(voice) // rate * rate].reshape(-1, rate), dtype=np.float64).mean(axis=1)
    sums = np.convolve(powers, np.ones(int(seconds)), "valid")
    return Excerpt(song, float(sums.argmax()), seconds)


def generate(
    stream: Stream, songs: Sequence[Sung], seed: int, setting: Setting, say: Say, how: str = "live"
) -> list[Sound]:
    """What the stream plays to each song's vocal, chunk by chunk."""
    takes = [one.take(seed * SEEDS_APART + number) for number, one in enumerate(songs)]
    wanted, done = sum(one.seconds for one in songs), 0.0

    def on_seconds(seconds: float) -> None:
        nonlocal done
        done += seconds
        say(f"playing {how}", min(1.0, done / wanted))

    return play(stream, takes, songs[0].sample_rate, setting, on_seconds)


def generate_offline(stream: Stream, songs: Sequence[Sung], seed: int, setting: Setting, say: Say) -> list[Sound]:
    """What the stream plays to each song's vocal in one chunk as long as the song, which it has heard before."""
    quantum = stream.spec.chunk_quantum_seconds
    played = []
    for number, one in enumerate(songs):
        say("playing offline", number / len(songs))
        # A second longer than the song, or what the codec holds back would take another chunk as long.
        whole = math.ceil((Fraction(len(one.vocal), one.sample_rate) + 1) / quantum) * quantum
        one_chunk = replace(setting, chunk_seconds=whole, visibility_seconds=stream.spec.latest_visibility(whole))
        played += play(stream, [one.take(seed * SEEDS_APART + number)], one.sample_rate, one_chunk)
    return played


def retrieved(plan: Plan, songs: Sequence[Sung], sample_rate: int) -> list[Sound]:
    """For each piece a training song's band, by key and tempo; none where a piece has no score."""
    pieces = [one.score.piece for one in songs if one.score is not None]
    if len(pieces) < len(songs):
        return []
    pool = Pool.of_training(plan.world, plan.pool)
    return [song(pool.nearest(piece).seed, plan.world, sample_rate).accompaniment for piece in pieces]


def separated(one: Sung, find: Finder | None, seed: int) -> Sound:
    """The voice [sample] as a separator cuts it out of the mix; without one as an oracle's mask does.

    Raises:
        ValueError: the separator finds no vocals.
    """
    if find is None:
        return separated_vocal(one.vocal, one.band)
    found = find(at_rate(one.vocal + one.band, one.sample_rate, SAMPLE_RATE), seed)
    if VOCALS not in found:
        raise ValueError(f"a separator that finds {', '.join(found)} and no vocals: use another one")
    return at_rate(found[VOCALS], SAMPLE_RATE, one.sample_rate, len(one.vocal))


def mixes(songs: Sequence[Sung], bands: Sequence[Sound]) -> list[Sound]:
    """Each band under its voice."""
    return [one.vocal + band for one, band in zip(songs, bands, strict=True)]


def enough(embedding: Embedding, bands: Sequence[Sound], rate: int, notes: list[str]) -> bool:
    """Whether sounds as long as these have frames enough for a distance; if not, says so."""
    fewest = sum(len(frames) for frames in embedded(embedding, bands, rate))
    needed = frames_needed(embedding.dimensions)
    if fewest < needed:
        notes.append(f"no FAD ({embedding.name}): {fewest} frames, and it takes at least {needed}: play more pieces")
    return fewest >= needed


def cannot_tell(column: str, generated: Distance, shuffled: Distance) -> str:
    """Says so where a distance is not greater for the bands of other songs by twice the standard error; else ""."""
    more = shuffled.minus(generated)
    if more.error is not None and more.whole > 2 * more.error:
        return ""
    error = "unknown" if more.error is None else f"{more.error:.2g}"
    return (
        f"{column} cannot tell a band from a shuffled one, {generated.whole:.3g} from {shuffled.whole:.3g} (standard "
        f"error of the difference {error}): it says how the band sounds, not whether it fits the voice"
    )


def judge(sounds: Sequence[Sound], songs: Sequence[Sung]) -> dict[str, Figure]:
    """Each sound by its song: means over them, of what is known of all."""
    judged = [figures_of(sound, one) for sound, one in zip(sounds, songs, strict=True)]
    columns = [name for name in judged[0] if all(name in figures for figures in judged)]
    return {name: Figure.of([figures[name] for figures in judged]) for name in columns}


def figures_of(sound: Sound, one: Sung) -> dict[str, float]:
    """What is measured of one sound."""
    rate = one.sample_rate
    scales = scale_shares(sound, rate)
    return {
        **({} if one.score is None else by_score(sound, one, one.score)),
        CHROMA: chroma_cosine(sound, one.band, rate),
        RHYTHM: onset_agreement(sound, one.band, rate),
        IN_SCALE: float(scales[scale_shares(one.vocal, rate).argmax()]),
        OWN_SCALE: float(scales.max()),
        TOGETHER: onsets_met(one.vocal, sound, rate),
        LEVEL: level_dbfs(sound),
        OVER: level_dbfs(sound) - level_dbfs(one.vocal),
    }


def by_score(sound: Sound, one: Sung, score: Song) -> dict[str, float]:
    """Chords, key, and onsets on the grid of the song's eighths."""
    beats = score.beat_seconds
    half = score.piece.seconds_per_beat / 2
    spans = [(float(beat), min(one.seconds, float(beat) + 2 * half)) for beat in beats]
    eighths = np.stack([beats, beats + half], axis=1).ravel()
    return {
        CHORDS: chord_match(sound, one.sample_rate, [chord.index for chord in score.chords], spans),
        IN_KEY: in_key(sound, one.sample_rate, score.piece.key),
        ONSETS: onset_f(sound, one.sample_rate, eighths),
    }


def gates(rows: Mapping[str, Row]) -> list[Gate]:
    """What a pack must reach."""

    def mean(row: str, column: str) -> float:
        return rows[row][column].mean

    chords, shuffled = mean("generated", CHORDS), mean("shuffled", CHORDS)
    half, twice = 0.5 * mean("reference", CHORDS), 2 * shuffled
    in_key, most_in_key = mean("generated", IN_KEY), 0.9 * mean("reference", IN_KEY)
    onsets, true_onsets = mean("generated", ONSETS), mean("reference", ONSETS)
    return [
        Gate(f"{CHORDS}, against shuffled", chords, f"at least {twice:.3g}, twice {shuffled:.3g}", chords >= twice),
        Gate(f"{CHORDS}, against reference", chords, f"at least {half:.3g}, half the reference", chords >= half),
        Gate(IN_KEY, in_key, f"at least {most_in_key:.3g}, .9 of the reference", in_key >= most_in_key),
        Gate(ONSETS, onsets, f"within .05 of the reference's {true_onsets:.3g}", abs(onsets - true_onsets) <= 0.05),
    ]
