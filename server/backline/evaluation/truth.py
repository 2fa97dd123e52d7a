"""What a separator is judged by: the parts of a song that are known apart, and what of its ports each one is.

| what the song has | its parts |
|---|---|
| instruments, each apart | vocals, drums, bass, other |
| vocals and the rest | vocals, and `instrumental`: all ports but vocals |
| a guitar and the rest | `guitar`: the port other, in which it is one of several; and `rest`: all the others |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from backline.corpus.multitrack import Multitrack, Sound, excerpts, has_four_tracks, mixture, mono, sum_of
from backline.corpus.stem_names import INSTRUMENTAL, MIX, OTHER, REST, SEVERAL, VOCALS, track_of
from backline.music.stems import SAMPLE_RATE, TRACKS, Stems

LONGEST_SECONDS = 60.0  # that are judged at once: longer songs in equal parts, or memory would grow with them

Tracks = frozenset[str]  # some of TRACKS
PORTS: Mapping[str, Tracks] = {INSTRUMENTAL: frozenset(TRACKS) - {VOCALS}}  # labels of ports that are several tracks


@dataclass(frozen=True)
class Truth:
    """A song, or a part of it as long as LONGEST_SECONDS, mono at SAMPLE_RATE."""

    mixed: Sound
    names: tuple[str, ...]  # of its parts
    tracks: tuple[Tracks, ...]  # that each part is
    parts: Stems  # [part, sample]

    def named(self, parts: Stems) -> dict[str, Sound]:
        """Sounds in the order of the parts, by their names."""
        return dict(zip(self.names, parts, strict=True))

    def parts_in(self, found: Mapping[str, Sound]) -> dict[str, Sound]:
        """The parts that a separator tells apart, of what it has found by its labels."""
        parts = {name: part_of(found, tracks) for name, tracks in zip(self.names, self.tracks, strict=True)}
        return {name: sound for name, sound in parts.items() if sound is not None}


def has_parts(song: Multitrack) -> bool:
    """Whether there is anything to judge a separator by."""
    return len(set(song.labels.values()) - {MIX}) > 1


def parts_of(song: Multitrack) -> dict[str, tuple[list[str], Tracks]]:
    """By the name of each part, its stems and the tracks that it is."""
    stems = {stem: label for stem, label in song.labels.items() if label != MIX}
    of_track = {
        t: [stem for stem, label in stems.items() if label not in SEVERAL and track_of(label) == t] for t in TRACKS
    }
    if has_four_tracks(song):
        return {track: (found, frozenset([track])) for track, found in of_track.items()}
    remaining = [stem for stem, label in stems.items() if label in SEVERAL]
    apart = {track: found for track, found in of_track.items() if found}
    left = frozenset(TRACKS) - set(apart)
    if not left:  # what is neither sung nor drums nor bass
        apart[OTHER] = apart[OTHER] + remaining
        return {track: (found, frozenset([track])) for track, found in apart.items()}
    named = {
        " and ".join(dict.fromkeys(stems[stem] for stem in found)) if track == OTHER else track: (
            found,
            frozenset([track]),
        )
        for track, found in apart.items()
    }
    return {**named, INSTRUMENTAL if set(apart) == {VOCALS} else REST: (remaining, left)}


def truths(song: Multitrack) -> Iterator[Truth]:
    """The song in equal parts that are not too long; those in which nothing sounds are for the caller to leave out."""
    parts = parts_of(song)
    for excerpt in excerpts(song, LONGEST_SECONDS, SAMPLE_RATE):
        mixed = mono(mixture(excerpt, SAMPLE_RATE))
        sounds = [fitted(mono(sum_of(excerpt, stems, SAMPLE_RATE)), len(mixed)) for stems, _ in parts.values()]
        yield Truth(mixed, tuple(parts), tuple(tracks for _, tracks in parts.values()), np.stack(sounds))


def part_of(found: Mapping[str, Sound], tracks: Tracks) -> Sound | None:
    """What a separator's stems, by their labels, say of these tracks together; None: it does not tell them apart."""
    those = {label: PORTS.get(label, frozenset([track_of(label)])) for label in found if label != MIX}
    within = [label for label, of in those.items() if of <= tracks]
    if not within or frozenset().union(*(those[label] for label in within)) != tracks:
        return None
    return np.sum([found[label] for label in within], axis=0, dtype=np.float32)


def fitted(sound: Sound, length: int) -> Sound:
    """[sample] of `length`, with silence where there is no more."""
    return np.pad(sound[:length], (0, max(0, length - len(sound))))
