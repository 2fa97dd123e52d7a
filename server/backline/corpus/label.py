"""Labels the songs of a corpus, several at a time, and goes on where it stopped.

A song is heard in a process of its own (trackers.py), which writes its labels.json; corpus.json is written every few
seconds and at the end. What a run that was killed had begun is done again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from backline.corpus.corpus import CorpusSong
from backline.corpus.labels import KINDS, Heard, read_heard, write_heard
from backline.corpus.manifest import CorpusError, LabelsEntry, Manifest, SongEntry, read_manifest, write_manifest
from backline.corpus.processes import alone, check_stopped, outcomes_of
from backline.corpus.trackers import Tools, listen
from backline.ffmpeg import NoSound

SAVED_SECONDS = 10.0  # between two writings of corpus.json

Say = Callable[[int, int, str], None]  # songs done, of how many, and what has become of the last


@dataclass(frozen=True)
class LabelPlan:
    """What is labelled, and by what."""

    tools: Tools
    only: tuple[str, ...] = KINDS
    again: bool = False  # songs that have these labels as well
    jobs: int = 1  # songs at a time


@dataclass
class LabelSummary:
    """What a run has done. `damaged` are sentences."""

    manifest: Manifest
    new: int = 0
    known: int = 0  # that had all the labels
    damaged: list[str] = field(default_factory=list)
    interrupted: bool = False


def label(corpus: Path, plan: LabelPlan, say: Say = lambda done, all_of_them, text: None) -> LabelSummary:
    """Labels all songs that lack one of the labels. Ctrl+C saves what is done.

    Raises:
        CorpusError: the corpus is damaged, or in work.
        OSError: it cannot be written.
    """
    read_manifest(corpus)  # a folder that is no corpus is left as it is
    with alone(corpus):
        manifest = read_manifest(corpus)
        songs = {song.id: song for song in manifest.songs}
        wanted = tuple(kind for kind in plan.only if kind in plan.tools.can())
        due = [song for song in manifest.songs if plan.again or _lacks(corpus, song, wanted)]
        summary = LabelSummary(manifest, known=len(songs) - len(due))
        saved = time.monotonic()

        def save() -> None:
            summary.manifest = msgspec.structs.replace(manifest, songs=tuple(songs.values()))
            write_manifest(corpus, summary.manifest)

        try:
            work = partial(_work, corpus, wanted, plan.tools)
            with contextlib.closing(outcomes_of(due, work, plan.jobs)) as outcomes:
                for done, (song, outcome) in enumerate(outcomes, start=1):
                    if isinstance(outcome, LabelsEntry):
                        songs[song.id] = msgspec.structs.replace(song, labels=outcome)
                        summary.new += 1
                    else:
                        summary.damaged.append(f"{song.title}: {outcome}")
                    say(done, len(due), song.title)
                    if time.monotonic() - saved >= SAVED_SECONDS:
                        save()
                        saved = time.monotonic()
        except KeyboardInterrupt:
            summary.interrupted = True
        finally:
            save()
        return summary


def _lacks(corpus: Path, song: SongEntry, wanted: tuple[str, ...]) -> bool:
    """Whether a label is missing, or the file that holds them."""
    if song.labels is None or not set(wanted) <= {*song.labels.found(), *song.labels.untold}:
        return True
    try:
        read_heard(corpus, song.id, song.labels.sha256)
    except CorpusError:
        return True
    return False


def _work(corpus: Path, wanted: tuple[str, ...], tools: Tools, song: SongEntry) -> LabelsEntry:
    """Hears a song, in a process, and writes what it has heard beside what was known before."""
    try:
        found = listen(CorpusSong(corpus, song), wanted, tools, check_stopped)
        known = _known(corpus, song)
        heard = msgspec.structs.replace(known[1], **found.heard)
        estimates = {**{kind: each for kind, each in known[0].items() if kind not in wanted}, **found.estimates}
        untold = {*(song.labels.untold if song.labels else ()), *wanted} - estimates.keys()
        return LabelsEntry(write_heard(corpus, song.id, heard), untold=tuple(sorted(untold)), **estimates)  # type: ignore[arg-type]
    except ValueError as error:
        raise NoSound(str(error)) from error


def _known(corpus: Path, song: SongEntry) -> tuple[dict[str, object], Heard]:
    """What earlier runs have found."""
    if song.labels is not None:
        with contextlib.suppress(CorpusError):
            return dict(song.labels.found()), read_heard(corpus, song.id, song.labels.sha256)
    return {}, Heard()
