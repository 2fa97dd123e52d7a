"""How many hours a corpus holds, how many fail each filter or are left for each paper's training, and which labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from backline.corpus.corpus import Corpus
from backline.corpus.filters import FILTERS, HAFM, MSS_LM
from backline.corpus.labels import KINDS
from backline.corpus.multitrack import has_four_tracks, has_voice_and_band
from backline.music.seeds import Purpose


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    hours: float
    songs: int


def kept(corpus: Corpus) -> list[Row]:
    """What there is, and what of it is fit for what."""
    songs = corpus.songs()
    rows = [Row("all", _hours(song.seconds for song in songs), len(songs))]
    for split in get_args(Purpose):
        part = corpus.songs(split)
        rows.append(Row(split, _hours(song.seconds for song in part), len(part)))
    for name, wanted, filters in (
        ("voice and band, by HAFM's filters", has_voice_and_band, HAFM),
        ("four stems, by MSS-LM's filters", has_four_tracks, MSS_LM),
    ):
        passing = [sum(end - begin for begin, end in song.passing(filters)) for song in corpus.songs(wanted=wanted)]
        rows.append(Row(name, _hours(passing), sum(seconds > 0 for seconds in passing)))
    return rows


def dropped(corpus: Corpus) -> list[Row]:
    """What of the songs that are kept fails each filter, and the songs that were passed over, by reason."""
    rows = []
    for name in FILTERS:
        failing = [sum(e - b for b, e in song.entry.failing.get(name, ())) for song in corpus.songs()]
        if name in corpus.manifest.filters:
            rows.append(Row(name, _hours(failing), sum(seconds > 0 for seconds in failing)))
    passed_over: dict[str, list[float]] = {}
    for each in corpus.manifest.passed_over:
        passed_over.setdefault(f"passed over: {each.reason.partition(' of ')[0]}", []).append(each.seconds)
    return [*rows, *(Row(reason, _hours(seconds), len(seconds)) for reason, seconds in sorted(passed_over.items()))]


def labelled(corpus: Corpus) -> list[tuple[str, str, int]]:
    """How many songs have which label, by which tool: kind, "tool, in what it has heard", songs."""
    counts: Counter[tuple[str, str]] = Counter()
    for song in corpus.songs():
        found = song.entry.labels.found() if song.entry.labels is not None else {}
        counts.update((kind, f"{estimate.source}, in {estimate.heard}") for kind, estimate in found.items())
    order = sorted(counts.items(), key=lambda item: (KINDS.index(item[0][0]), item[0][1]))
    return [(kind, source, count) for (kind, source), count in order]


def _hours(seconds: Iterable[float]) -> float:
    return sum(seconds) / 3600
