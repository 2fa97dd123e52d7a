"""A run of DuoTok's stages: RUN/songs, RUN/stage-1 to stage-4, each going on from where it was.

recipe = DuoTokRecipe(minutes=40)
train_duotok(Path("runs/duotok"), recipe, print)          # stages 1 to 3
tokenizer = best_tokenizer(Path("runs/duotok"), recipe.training.tokenizer)   # of stage 3
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from backline.codecs.duotok.config import DuoTokConfig
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.corpus.corpus import Corpus
from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import has_four_tracks, made_of
from backline.corpus.pair_tokens import write_tokens
from backline.corpus.separator import SeparatorPack
from backline.corpus.songs import Composer, CorpusSongs, Mixed, Songs
from backline.music.seeds import HELD_OUT_SEED
from backline.music.world import DUO
from backline.training.duotok import TRAININGS, WATCHED, DuoTokTraining, train_stage
from backline.training.duotok_rows import SILENT, Syllables, Vocabulary, WordPieces
from backline.training.duotok_songs import (
    SAMPLE_RATE,
    SONGS_PER_SHARD,
    DuoSong,
    Listener,
    Pool,
    can_be_learnt,
    has_words,
    read_songs,
    write_songs,
)
from backline.training.loop import LoopConfig
from backline.training.run_folder import best_validation, best_weights, hold_to_songs, last_entry, seconds
from backline.training.tokens import producer

SHARES = {1: 10.0, 2: 20.0, 3: 10.0}  # of the minutes of all
TOKENIZER_STAGES = tuple(SHARES)
VALIDATED = 300.0  # seconds between validations


@dataclass(frozen=True)
class DuoTokRecipe:
    """What a tokenizer is made of."""

    songs: Songs = field(default_factory=lambda: Composer(DUO, SAMPLE_RATE))
    minutes: float = 40.0  # of the stages that are trained, all together
    steps: float | None = None  # of each, in place of minutes
    seed: int = 0
    device: str = "auto"
    training: DuoTokTraining = TRAININGS["small"]
    teacher: SeparatorPack | None = None  # of masks, for songs that have a voice and a band alone
    vocab: Path | None = None  # BERT's, for the words of a corpus; None: the syllables of composed songs
    held_out_songs: int = 12
    songs_per_shard: int = SONGS_PER_SHARD

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """What words are told in; None where they are not to be, or where no song has any."""
        if not self.training.weights.words:
            return None
        if self.vocab is not None:
            return WordPieces(self.vocab)
        return None if isinstance(self.songs, CorpusSongs) else Syllables()

    def loop(self, run: Path, stage: int, stages: Sequence[int]) -> LoopConfig:
        if self.steps is not None:
            return LoopConfig(folder(run, stage), steps=self.steps, seed=self.seed, validate_seconds=VALIDATED)
        minutes = self.minutes * SHARES[stage] / sum(SHARES[each] for each in stages)
        return LoopConfig(folder(run, stage), minutes=minutes, seed=self.seed, validate_seconds=VALIDATED)

    def unfinished(self, run: Path, stage: int, stages: Sequence[int]) -> bool:
        if self.steps is not None:
            return bool(last_entry(folder(run, stage))["step"] < self.steps)
        return seconds(folder(run, stage)) < 60 * self.loop(run, stage, stages).minutes


def folder(run: Path, stage: int) -> Path:
    """Where a stage lies."""
    return run / f"stage-{stage}"


def train_duotok(
    run: Path,
    recipe: DuoTokRecipe,
    progress: Callable[[str], None] = print,
    stages: Sequence[int] = TOKENIZER_STAGES,
) -> bool:
    """Trains `stages` of the tokenizer in order, as far as they need it; whether all of them are done.

    Raises:
        ValueError: a stage comes before one that it needs, the songs lack something, or see `train_stage`.
    """
    check(recipe)
    made = [stage for stage in stages if recipe.unfinished(run, stage, stages)]
    if not made:
        progress(f"{', '.join(f'stage {stage}' for stage in stages)}: trained already; raise --minutes to go on")
        return True
    if recipe.vocabulary is None and recipe.training.weights.words:
        progress("no words are told: where a corpus has some, name BERT's vocabulary, --vocab vocab.txt")
    listener = Listener(recipe.songs, recipe.teacher)
    songs = run / "songs"
    songs.mkdir(parents=True, exist_ok=True)
    taught = f" --teacher {recipe.teacher.name}" if recipe.teacher else ""
    hold_to_songs(songs, recipe.songs.options() + taught)
    held_out = held_out_songs(songs, listener, recipe.held_out_songs)
    write = partial(write_songs, listener=listener, seed=recipe.seed, songs=recipe.songs_per_shard)
    with producer(songs, write):
        for stage in made:
            progress(f"stage {stage}: {folder(run, stage)}")
            loop, before = recipe.loop(run, stage, stages), needed(run, recipe, stage)
            pool = Pool(songs)
            _, outcome = train_stage(
                stage, loop, recipe.training, pool, held_out, recipe.vocabulary, before, recipe.device
            )
            if outcome.interrupted:
                progress(f"stopped in stage {stage}; the same command goes on in {run}")
                return False
    return True


def needed(run: Path, recipe: DuoTokRecipe, stage: int) -> Path | None:
    """The folder of the stage that this one begins with; None of the first.

    Raises:
        ValueError: it has not been trained.
    """
    if stage == 1 or (stage == 2 and not recipe.training.pretrained):
        return None
    before = folder(run, stage - 1)
    if not (before / "checkpoint.pt").exists():
        raise ValueError(f"{before} is missing: train stage {stage - 1} first, --stage {stage - 1}")
    return before


def best_tokenizer(run: Path, sizes: DuoTokConfig) -> Tokenizer:
    """Stage 3's, at its best validation.

    Raises:
        ValueError: stage 3 has not been trained.
        RuntimeError: it has other sizes.
    """
    weights = best_weights(folder(run, 3))
    tokenizer = Tokenizer(sizes)
    prefix = "tokenizer."
    tokenizer.load_state_dict(
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    )
    return tokenizer.eval().requires_grad_(False)


def figures(run: Path) -> dict[str, dict[str, float]]:
    """The best validation of each stage that there is, for a card."""
    return {f"stage {stage}": found for stage in SHARES if (found := best_validation(folder(run, stage), WATCHED))}


def held_out_songs(songs: Path, listener: Listener, count: int) -> list[DuoSong]:
    """Songs that the best weights are chosen by; made once.

    Raises:
        CorpusError: there are none, or all are silent.
    """
    path = songs / "held-out.npz"
    if not path.exists():
        seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + count)
        made = list(made_of(partial(listener, varied=False), seeds))
        if not any((song.tones.sum(axis=2) > SILENT).any() for song in made):
            raise CorpusError(
                "nothing sounds in the songs that are held out, or none has a voice apart from its band: "
                "`backline data prepare --split validation` adds others"
            )
        write_tokens(path, [song.arrays() for song in made])
    return read_songs(path)


def check(recipe: DuoTokRecipe) -> None:
    """Finds out before anything is trained whether the songs have what the losses need.

    Raises:
        ValueError: they have no words, or no four tracks and no teacher.
    """
    corpus = corpus_of(recipe.songs)
    if corpus is None:
        return
    learnt = corpus.songs("training", can_be_learnt)
    if recipe.vocab is not None and recipe.training.weights.words and not any(map(has_words, learnt)):
        raise ValueError(
            f"no song of {corpus.folder} has words: `backline data label` hears them, or leave them out with --no-asr"
        )
    if recipe.training.weights.masks and recipe.teacher is None and not any(map(has_four_tracks, learnt)):
        raise ValueError(
            f"no song of {corpus.folder} has vocals, drums, bass and other: name a pack that separates them, "
            "--teacher stems, or leave masks out with --no-mss"
        )


def corpus_of(songs: Songs) -> Corpus | None:
    """The corpus that songs come from."""
    if isinstance(songs, Mixed):
        return corpus_of(songs.first)
    return songs.corpus if isinstance(songs, CorpusSongs) else None
