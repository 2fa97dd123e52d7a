"""Training of towers: what belongs together is drawn together, by both text towers, and nothing else counts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from backline.corpus.labelled import Labelled
from backline.models.mge.towers import TowersConfig
from backline.models.mge.words import BAND as BACKING
from backline.models.mge.words import (
    BASS,
    DRUMS,
    INSTRUMENTS,
    VOICE,
    WHOLE,
    WITHOUT,
    labels_of,
    phrase,
    phrases_for,
)
from backline.training.loop import LoopConfig
from backline.training.towers import (
    Contrast,
    Lessons,
    TowersTraining,
    best_towers,
    packed,
    train_towers,
)

RATE = 8_000
SMALL = TowersTraining(
    TowersConfig(16, RATE, 32, 512, 160, (8, 8, 16, 16), 1024, 16),
    rows=12, phrases=160, songs=6, batches_per_song=50, recorded=0.0, rate=1e-2, grams_rate=3e-2, seconds=0.5,
)  # fmt: skip
BAND = ((VOICE,), (DRUMS,), labels_of("bass", 33), labels_of("comp", 0))
HERTZ = (900.0, None, 110.0, 350.0)  # None: noise


def stems(seed: int) -> Labelled:
    """Two seconds of four instruments that sound unlike each other, in other keys from song to song."""
    rng = np.random.default_rng(seed)
    time = np.arange(2 * RATE) / RATE
    made = [
        rng.standard_normal(len(time)) if hertz is None else np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * time)
        for hertz in HERTZ
    ]
    return BAND, 0.1 * np.stack(made).astype(np.float32)


def read(texts: Sequence[str]) -> Tensor:
    """Stands in for MiniLM, which no test downloads: words as random vectors, texts as their mean."""
    vectors = []
    for text in texts:
        of_words = [torch.randn(384, generator=torch.Generator().manual_seed(crc32(w.encode()))) for w in text.split()]
        vectors.append(torch.stack(of_words).mean(0))
    return F.normalize(torch.stack(vectors), dim=-1)


def test_a_sum_with_a_stem_without_a_name_is_never_asked_for_as_the_rest_of_it() -> None:
    """Else "the bass" would be taught to mean the bass and whatever sounds with it."""

    def nameless(seed: int) -> Labelled:
        return (*BAND[:3], ()), stems(seed)[1]

    lessons = Lessons(replace(SMALL, singles=0.0), nameless, 0)
    lessons.batch()
    sums = [sound for sound in (lessons.sound() for _ in range(200)) if not sound.name]
    partly = [sound.text for sound in sums if "" in sound.labels]
    told = {phrase(template, name) for template in WITHOUT for labels in BAND[:3] for name in labels}
    assert partly
    assert {*partly} <= {*WHOLE, *BACKING, *told}
    assert len(partly) < len(sums)


def test_the_loss_is_the_mean_over_all_positives_as_written_down() -> None:
    torch.manual_seed(0)
    texts, sounds = (F.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    matching = torch.eye(5, dtype=torch.bool)
    matching[0, 3] = True
    unclear = torch.zeros(5, 5, dtype=torch.bool)
    unclear[2, 4] = True
    found = Contrast(0.1)(texts, sounds, matching, unclear)
    total = 0.0
    for rows, columns, match, clear in (
        (texts, sounds, matching, ~unclear), (sounds, texts, matching.T, ~unclear.T)
    ):  # fmt: skip
        for i in range(5):
            likeness = [10 * float(rows[i] @ columns[j]) for j in range(5)]
            below = np.log(sum(np.exp(likeness[j]) for j in range(5) if clear[i, j]))
            own = [likeness[j] - below for j in range(5) if match[i, j]]
            total -= float(np.mean(own)) / 10
    assert float(found.detach()) == pytest.approx(total, rel=1e-5)


def test_texts_ask_for_what_sounds_beside_them() -> None:
    lessons = Lessons(SMALL, stems, seed=3)
    batches = [lessons.batch() for _ in range(12)]
    asked = []
    for batch in batches:
        assert batch.matching.diagonal().all()
        assert not (batch.matching & batch.unclear).any()
        for audio, text in zip(batch.audio, batch.texts, strict=True):
            spectrum = np.abs(np.fft.rfft(audio))
            if text in phrases_for(DRUMS):
                assert np.median(spectrum) > 0.1 * np.mean(spectrum), text  # noise
            elif text in phrases_for("piano"):
                assert abs(2 * int(spectrum.argmax()) - 350) < 45, text
            elif text in phrases_for(VOICE):
                assert abs(2 * int(spectrum.argmax()) - 900) < 110, text
            else:
                continue
            asked.append(text)
    assert len(asked) > 30


def test_a_text_belongs_to_all_sounds_of_its_label_and_to_no_sum() -> None:
    lessons = Lessons(SMALL, stems, seed=4)
    names = [VOICE, DRUMS, BASS, "electric bass", "piano", "keys"]
    single = {text: name for name in names for text in phrases_for(name)}
    both = 0
    for batch in (lessons.batch() for _ in range(6)):
        for text, row in zip(batch.texts, batch.matching, strict=True):
            for other, matches in zip(batch.texts, row, strict=True):
                if text in single and other in single:
                    asked, sounding = single[text], single[other]
                    # What is asked for by its family sounds like its instrument, and the other way round.
                    same = {asked, sounding} <= {BASS, "electric bass"} or {asked, sounding} <= {"piano", "keys"}
                    assert matches == (asked == sounding or same), (text, other)
                    both += matches
                elif text in single:
                    assert not matches, (text, other)
    assert both > 100


def test_what_is_no_voice_is_heard_as_recordings_are_at_its_own_level() -> None:
    lessons = Lessons(replace(SMALL, recorded=1.0), stems, seed=6)
    labels, dry = stems(0)
    for called, stem in zip(labels, dry, strict=True):
        wet = lessons.recorded(called, stem)
        assert wet.shape == stem.shape
        assert np.array_equal(wet, stem) == (called == (VOICE,))
        assert np.sqrt(np.mean(wet**2)) == pytest.approx(np.sqrt(np.mean(stem**2)), rel=1e-3)
    assert np.array_equal(lessons.recorded((DRUMS,), 0 * dry[1]), 0 * dry[1])


def test_silence_is_never_asked_for() -> None:
    def resting(seed: int) -> Labelled:
        labels, sounds = stems(seed)
        sounds[1:, RATE:] = 0
        sounds[0] = 0
        return labels, sounds

    for _ in range(5):
        batch = Lessons(SMALL, resting, seed=5).batch()
        assert (np.abs(batch.audio).max(axis=1) > 0.01).all()
        assert not any("voc" in text or "sing" in text for text in batch.texts if "but" not in text)


def test_both_towers_find_what_they_were_taught_and_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    held_out = range(1 << 40, (1 << 40) + 4)
    _, first = train_towers(LoopConfig(tmp_path, steps=30), SMALL, read, stems, held_out, "cpu")
    network, second = train_towers(LoopConfig(tmp_path, steps=150), SMALL, read, stems, held_out, "cpu")
    assert (first.step, second.step) == (30, 150)
    assert second.validation["minilm_missed"] <= 0.25
    assert second.validation["grams_missed"] <= 0.25  # chance is .75
    assert len(INSTRUMENTS) > 20  # of which four sound here
    best = best_towers(tmp_path, SMALL.towers)
    table, tensors = packed(best)
    assert TowersConfig(**table) == network.config
    assert all(name.startswith("towers.") for name in tensors)
