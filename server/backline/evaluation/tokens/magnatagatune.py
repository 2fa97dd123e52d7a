"""MagnaTagATune as it lies on the disk, for the tagging probe of the paper: its 50 most frequent tags (section 4.3).

The folder holds `annotations_final.csv` and the clips' folders, 0 to f: by the split that the field uses, 0 to b are
learnt from and d to f judged by. Clips are mixes: either track's tokenizer hears them whole.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import soundfile

from backline.evaluation.tokens.probes import Tagged, features
from backline.evaluation.tokens.reconstruction import resampled
from backline.evaluation.tokens.tokenizers import TRACKS, DualTokenizer, Sound

ANNOTATIONS = "annotations_final.csv"
TAGS = 50
FOLDERS = {"learnt": "0123456789ab", "judged": "def"}
MOST = {"learnt": 2000, "judged": 600}  # clips, evenly from all that there are: every one has to be heard
SECONDS = 29.0  # of a clip


@dataclass(frozen=True)
class Clip:
    """One line of the table."""

    path: Path
    tags: frozenset[str]


def read_clips(folder: Path, split: Literal["learnt", "judged"], most: int | None = None) -> list[Clip]:
    """Clips with a tag at least, evenly from their folders.

    Raises:
        ValueError: it is no MagnaTagATune.
    """
    table = folder / ANNOTATIONS
    if not table.is_file():
        raise ValueError(f"{table} is not there: give the folder of MagnaTagATune that has it, and the clips' folders")
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    if not lines or not {"clip_id", "mp3_path"} <= lines[0].keys():
        raise ValueError(f"{table} has no columns clip_id and mp3_path: get it again, as MagnaTagATune has it")
    counts = Counter(tag for line in lines for tag, value in line.items() if value == "1" and tag != "clip_id")
    wanted = frozenset(tag for tag, _ in counts.most_common(TAGS))
    own = [
        Clip(folder / line["mp3_path"], tags)
        for line in sorted(lines, key=lambda line: line["mp3_path"])
        if line["mp3_path"][:1] in FOLDERS[split]
        and (tags := frozenset(tag for tag, value in line.items() if value == "1") & wanted)
    ]
    own = [clip for clip in own if clip.path.is_file()]
    if not own:
        raise ValueError(f"{folder} has none of the clips that are {split}: they are in its folders {FOLDERS[split]}")
    count = min(len(own), most or MOST[split])
    return [own[at * len(own) // count] for at in range(count)]


def tagged_clips(
    clips: Iterable[Clip], tokenizers: Iterable[DualTokenizer], heard: Callable[[], None] = lambda: None
) -> dict[str, list[Tagged]]:
    """By tokenizer, what the probe hears of every clip; clips that cannot be read, or end early, are left out."""
    every = list(tokenizers)
    found: dict[str, list[Tagged]] = {each.name: [] for each in every}
    for clip in clips:
        heard()
        try:
            sound, rate = soundfile.read(clip.path, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            continue  # three of the set's files are empty
        if len(sound) < SECONDS * rate:
            continue
        mono: Sound = sound[: int(SECONDS * rate)].mean(axis=1)
        for tokenizer in every:
            codes = {
                track: tokenizer.encode(track, resampled(mono, rate, tokenizer.tracks[track].sample_rate))
                for track in TRACKS
            }
            found[tokenizer.name].append(Tagged(features(tokenizer, codes, SECONDS), clip.tags))
    return found
