"""How much what MGE-LDM generates sounds like songs: Frechet audio distance to held-out ones, and what that is of.

As many songs are generated as are judged by, each as long. Rows:
- generated: without a prompt; prompted: "the sound of the ..", all instruments of a held-out song (Table 1);
- training songs: the floor, which is what chance leaves between songs of one world, or of one corpus; VAE: the held-out
  songs through the VAE.
`on its own scale` is the share of the
notes on the scale that fits them best, 7/12 where there is no key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from backline.corpus.labelled import stems_of
from backline.corpus.multitrack import mixture, mono
from backline.evaluation.codec import learnt_from
from backline.evaluation.live import SONG_RATE, Sound
from backline.evaluation.plan import SEEDS_APART, Plan, Say
from backline.evaluation.queried import Generate, asking_for, middle
from backline.evaluation.separation_baselines import Resynthesise
from backline.measures.chords import scale_shares
from backline.measures.embeddings import Embedding, embedded
from backline.measures.frechet import distance, frames_needed
from backline.measures.level import level_dbfs, silence_share
from backline.measures.report import Figure, Row

RATE = SONG_RATE
LEVEL, SILENT, OWN_SCALE = "level dBFS", "silent (share)", "on its own scale"  # columns
GENERATED, PROMPTED, TRAINING, VAE, HELD_OUT = (
    "generated",
    "prompted",
    "training songs",
    "VAE",
    "held-out songs",
)  # rows


def evaluate_generation(
    generate: Generate, plan: Plan, resynthesise: Resynthesise, embeddings: Sequence[Embedding], say: Say
) -> tuple[Mapping[str, Row], list[str], dict[str, Sound]]:
    """Rows of figures, notes on what could not be measured, and a few of the sounds at RATE, to be drawn.

    Args:
        generate: what is judged, and gives sounds at RATE.
        resynthesise: the VAE there and back, at RATE.
    """
    songs, prompts = [], []
    for number, song in enumerate(plan.multitracks()):
        say("reading, or composing and rendering", number / plan.count)
        part = middle(song)
        labels, stems = stems_of(part, RATE)
        songs.append(stems.sum(axis=0))
        prompts.append(asking_for(*(each[0] for each in labels if each)))
    found: dict[str, list[Sound]] = {HELD_OUT: songs, GENERATED: [], PROMPTED: []}
    for number, (song, prompt) in enumerate(zip(songs, prompts, strict=True)):
        for name, asked in ((GENERATED, ""), (PROMPTED, prompt)):
            say("generating", number / len(songs))
            found[name].append(generate(len(song) / RATE, asked, plan.seed * SEEDS_APART + number))
    say("through the VAE", 0.0)
    found[VAE] = [resynthesise(song) for song in songs]
    learnt = learnt_from(plan.songs)[: len(songs)]
    notes = plan.notes()
    found[TRAINING] = []
    for number, seed in enumerate(learnt):
        say("reading, or composing and rendering, training songs", number / len(learnt))
        found[TRAINING].append(mono(mixture(middle(plan.songs.song(seed)), RATE)))
    if len(learnt) < len(songs):
        notes.append(f"{len(learnt)} training songs, where {len(songs)} are judged: their distance is of fewer frames")
    found = {name: sounds for name, sounds in found.items() if sounds}
    rows = {}
    for number, (name, sounds) in enumerate(found.items()):
        say("measuring", number / len(found))
        rows[name] = {**heard(sounds), **fad(name, sounds, songs, embeddings, notes)}
    return rows, list(dict.fromkeys(notes)), {name: sounds[0] for name, sounds in found.items()}


def heard(sounds: Sequence[Sound]) -> Row:
    """What is said of sounds by themselves."""
    return {
        LEVEL: Figure.of([level_dbfs(sound) for sound in sounds]),
        SILENT: Figure.of([silence_share(sound, RATE) for sound in sounds]),
        OWN_SCALE: Figure.of([float(np.max(scale_shares(sound, RATE))) for sound in sounds]),
    }


def fad(
    name: str, sounds: Sequence[Sound], songs: Sequence[Sound], embeddings: Sequence[Embedding], notes: list[str]
) -> Row:
    """Distances to the held-out songs; where there is too little to tell, says so."""
    found: dict[str, Figure] = {}
    for embedding in embeddings:
        column = f"FAD ({embedding.name})"
        reference, frames = (embedded(embedding, those, RATE) for those in (songs[: len(sounds)], sounds))
        fewest, needed = min(sum(map(len, each)) for each in (reference, frames)), frames_needed(embedding.dimensions)
        if fewest < needed:
            notes.append(f"no {column}: {fewest} frames, and it takes at least {needed}: take more pieces")
        elif name != HELD_OUT:
            far = distance(frames, reference)
            found[column] = Figure(far.whole, far.error)
            if name == GENERATED:
                notes.append(f"{column} of {fewest} frames in every set: compare only with as many")
    return found
