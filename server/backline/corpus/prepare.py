"""Prepares a corpus of many songs, several at a time, and goes on where it stopped.

A song is prepared in a process of its own (song.py); here it gets its place: an id, a split, an entry in corpus.json.
That file is written every few seconds and at the end. What a run that was killed had begun is done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from backline.corpus.filters import ACTIVITY, CLIPPING, ENERGY, LOUD_VOICE, QUIET, SILENCE, voice_filter
from backline.corpus.layouts import FoundSong, find_songs
from backline.corpus.manifest import (
    MANIFEST,
    SAMPLE_RATE,
    SONGS,
    CorpusError,
    Manifest,
    PassedOver,
    SongEntry,
    Source,
    read_manifest,
    safe_name,
    write_manifest,
)
from backline.corpus.processes import alone, check_stopped, outcomes_of
from backline.corpus.separator import Separator, SeparatorPack
from backline.corpus.song import PreparedSong, prepare_song
from backline.music.seeds import Purpose

SAVED_SECONDS = 10.0  # between two writings of corpus.json
DUPLICATE = "duplicate"

Say = Callable[[int, int, str], None]  # songs done, of how many, and what has become of the last


@dataclass(frozen=True)
class Plan:
    """How songs are prepared."""

    separator: SeparatorPack | None = None  # for those that are mixes
    separated_by: str = ""  # what has made the stems that are there; "": they are true
    licence: str = ""
    split: Purpose | None = None  # of all; else as their folders say, else drawn
    validation: float = 0.05  # shares of the songs that are drawn
    test: float = 0.1
    seed: int = 0  # of the draw
    drop: tuple[str, ...] = (SILENCE,)  # a song of which these leave nothing is not taken
    jobs: int = 1  # songs at a time


@dataclass
class Summary:
    """What a run has done. `damaged` are sentences; what was only passed over stands in the manifest."""

    manifest: Manifest
    new: int = 0
    known: int = 0  # that an earlier run had prepared or passed over
    damaged: list[str] = field(default_factory=list)
    interrupted: bool = False


def prepare(
    folders: Sequence[Path], corpus: Path, plan: Plan, say: Say = lambda done, all_of_them, text: None
) -> Summary:
    """Prepares all songs in `folders` that are not in the corpus yet. Ctrl+C saves what is done.

    Raises:
        CorpusError: the corpus is damaged or was begun in another way, or the separator does not separate.
        PackError: the separator cannot be loaded.
        OSError: the corpus cannot be written.
    """
    (corpus / SONGS).mkdir(parents=True, exist_ok=True)
    with alone(corpus):
        for left in (corpus / SONGS).glob(".*.part"):
            shutil.rmtree(left, ignore_errors=True)
        shelf = _Shelf(corpus, plan)
        summary = Summary(shelf.manifest)
        songs = [song for folder in folders for song in find_songs(folder)]
        new = [song for song in songs if not shelf.knows(song)]
        summary.known = len(songs) - len(new)
        work = partial(_work, corpus, plan.separator, plan.separated_by, shelf.voice)
        try:
            with contextlib.closing(outcomes_of(new, work, plan.jobs)) as outcomes:
                for done, (song, outcome) in enumerate(outcomes, start=1):
                    if isinstance(outcome, PreparedSong):
                        said = shelf.put(song, outcome)
                        summary.new += not said
                    else:
                        said = str(outcome)
                        summary.damaged.append(f"{song.source.name}: {said}")
                    say(done, len(new), f"{song.title}: {said}" if said else song.title)
        except KeyboardInterrupt:
            summary.interrupted = True
        finally:
            shelf.save()
        summary.manifest = shelf.manifest
        return summary


class _Shelf:
    """A corpus in the making."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self._plan = folder, plan
        if (folder / MANIFEST).exists():
            known = read_manifest(folder)
            if known.seed != plan.seed:
                raise CorpusError(
                    f"{folder} was split by seed {known.seed}: use --seed {known.seed}, or another folder"
                )
        else:
            filters = (SILENCE, CLIPPING, QUIET, LOUD_VOICE, voice_filter())
            known = Manifest(1, plan.seed, filters)
        self.voice = ACTIVITY if ACTIVITY in known.filters else ENERGY
        if self.voice == ACTIVITY and voice_filter() != ACTIVITY:
            raise CorpusError(f"{folder} is measured by silero-vad: pip install silero-vad, or use another folder")
        self._seed, self._filters = known.seed, known.filters
        self._songs = {song.source.key: song for song in known.songs}
        self._sounds = {song.sha256: song for song in known.songs}
        self._passed_over = {each.source.key: each for each in known.passed_over}
        self._saved = time.monotonic()

    @property
    def manifest(self) -> Manifest:
        songs = sorted(self._songs.values(), key=lambda song: song.source.name)
        passed_over = sorted(self._passed_over.values(), key=lambda each: each.source.name)
        return Manifest(1, self._seed, self._filters, tuple(songs), tuple(passed_over))

    def knows(self, song: FoundSong) -> bool:
        """Whether these very files have been prepared, or read and passed over."""
        known = self._songs.get(song.source.key) or self._passed_over.get(song.source.key)
        return known is not None and known.source == song.source

    def put(self, found: FoundSong, made: PreparedSong) -> str:
        """Gives a song its place; says why, if it gets none."""
        plan, seconds = self._plan, made.samples / SAMPLE_RATE
        self._forget(found.source)
        twin = self._sounds.get(made.sha256)
        reason = f"{DUPLICATE} of {twin.source.name}"[:1_000] if twin is not None else ""
        for name in plan.drop if not reason else ():
            if sum(end - begin for begin, end in made.failing.get(name, ())) >= seconds - 0.01:
                reason = name
        if reason:
            shutil.rmtree(made.folder, ignore_errors=True)
            self._passed_over[found.source.key] = PassedOver(found.source, reason, seconds)
            self.save_at_times()
            return reason
        split = plan.split or found.split or drawn_split(made.sha256, plan)
        name = f"{safe_name(found.title)}-{made.sha256[:8]}"
        place = self.folder / SONGS / name
        shutil.rmtree(place, ignore_errors=True)  # of a run that was killed before it could say so
        made.folder.rename(place)
        song = SongEntry(
            name, found.title, split, made.samples, made.sha256, found.source, made.stems, plan.licence, made.failing
        )
        self._songs[found.source.key] = self._sounds[made.sha256] = song
        self.save_at_times()
        return ""

    def save_at_times(self) -> None:
        if time.monotonic() - self._saved >= SAVED_SECONDS:
            self.save()

    def save(self) -> None:
        write_manifest(self.folder, self.manifest)
        self._saved = time.monotonic()

    def _forget(self, source: Source) -> None:
        """What was made of files that have changed since."""
        self._passed_over.pop(source.key, None)
        if (old := self._songs.pop(source.key, None)) is not None:
            del self._sounds[old.sha256]
            shutil.rmtree(self.folder / SONGS / old.id, ignore_errors=True)


def drawn_split(sha256: str, plan: Plan) -> Purpose:
    """The split of a song that no folder names: the same for the same sound and seed, whatever else there is."""
    digest = hashlib.sha256(f"{plan.seed} {sha256}".encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if draw < plan.test else "validation" if draw < plan.test + plan.validation else "training"


def _work(corpus: Path, pack: SeparatorPack | None, separated_by: str, voice: str, song: FoundSong) -> PreparedSong:
    separator = None if pack is None or not song.is_mix else _resident(pack)
    return prepare_song(song, corpus, separator, separated_by, voice, check_stopped)


@cache
def _resident(pack: SeparatorPack) -> Separator:
    """One a process."""
    return pack.load()
