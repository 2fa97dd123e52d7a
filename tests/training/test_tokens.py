"""Songs become tokens that cover the same time at every rate, and a reader meets each song once."""

import dataclasses
import fcntl
import os
import signal
import subprocess
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig
from backline.codecs.harmony import HarmonyEncoder
from backline.models.hafm.transport import BEAT_STEPS
from backline.music.composer import compose
from backline.music.fluidsynth import missing
from backline.music.piece import Piece
from backline.music.singer import sing
from backline.music.songs import Song
from backline.music.theory import Key
from backline.music.world import TRIO
from backline.training.semantics import SungSong, train_semantics
from backline.training.tokens import (
    ShardReader,
    Tokenizers,
    Tokens,
    crop,
    producer,
    read_tokens,
    shard_path,
    write_numbered,
    write_shard,
)

RATE = 24_000
SHORT = dataclasses.replace(TRIO, bars=4)
CLIP = Fraction(6, 5)
FRAMES = {
    "vocal": (1, 2),
    "band": (5, 2),
    "beat": (1, 2),
    "key": (1, 1),
    "codes": (8, 3),
}  # codebooks, in 40 ms
CODEC = ConvNeXtCodecConfig(latent=8, encoder_width=16, encoder_blocks=1, decoder_width=16, decoder_blocks=1)


def sung(piece: Piece, semitones: int = 0) -> Song:
    """The piece's melody, so much higher, over a band that is but noise."""
    melody = [dataclasses.replace(note, pitch=note.pitch + semitones) for note in piece.melody]
    vocal = sing(melody, piece.tempo, piece.seconds, RATE, piece.seed, piece.voice)
    band = 0.1 * np.random.default_rng(piece.seed).standard_normal(len(vocal), np.float32)
    return Song(piece, RATE, vocal, band, {})


@pytest.fixture(scope="module")
def tokenizers() -> Tokenizers:
    """A voice's encoder fitted on a few melodies, all said to be in C, and a codec of random weights."""
    vocals = [sung(compose(seed, SHORT)).vocal for seed in range(3)]
    songs = [SungSong(vocal, 0) for vocal in vocals]
    found = train_semantics(songs, songs[:1], iterations=5)
    torch.manual_seed(0)
    return Tokenizers(HarmonyEncoder(found.tables), ConvNeXtCodec(CODEC).eval())


# ---- a song's tokens ----


def test_all_tokens_of_a_song_cover_the_same_whole_quanta(tokenizers: Tokenizers) -> None:
    song = sung(compose(7, SHORT))
    quanta = len(song.vocal) // 960
    tokens = tokenizers(song, 7)
    assert {name: array.shape for name, array in tokens.items()} == {
        name: (codebooks, frames * quanta) for name, (codebooks, frames) in FRAMES.items()
    }
    assert all(array.dtype == np.int16 for array in tokens.values())


def test_equal_seeds_give_equal_tokens_and_another_only_another_voice(tokenizers: Tokenizers) -> None:
    song = sung(compose(8, SHORT))
    first, again, other = tokenizers(song, 1), tokenizers(song, 1), tokenizers(song, 2)
    assert first.keys() == again.keys() == other.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert (name == "vocal") != np.array_equal(first[name], other[name]), name


@pytest.mark.parametrize(
    ("key", "semitones"),
    [("C major", 0), ("A minor", 0), ("D major", 2), ("B minor", 2), ("B major", 11), ("Ab minor", 11)],
)
def test_the_key_is_told_in_semitones_above_c_or_a_minor(tokenizers: Tokenizers, key: str, semitones: int) -> None:
    every = [Key(tonic, mode) for tonic in range(12) for mode in ("major", "minor")]
    piece = dataclasses.replace(compose(0, SHORT), key=next(each for each in every if each.name == key))
    short = Song(piece, RATE, np.zeros(9600, np.float32), np.zeros(9600, np.float32), {})
    assert tokenizers(short, 0)["key"].tolist() == [[semitones] * 10]


def test_the_beat_tells_the_place_in_the_bar(tokenizers: Tokenizers) -> None:
    piece = dataclasses.replace(compose(0, SHORT), tempo=120.0)  # a bar lasts two seconds
    silence = np.zeros(5 * RATE, np.float32)
    beat = tokenizers(Song(piece, RATE, silence, silence, {}), 0)["beat"][0]
    expected = np.arange(len(beat)) % 100 * BEAT_STEPS // 100
    np.testing.assert_array_equal(beat, expected)


def test_a_song_sung_higher_has_its_tokens_turned_by_as_much(tokenizers: Tokenizers) -> None:
    # Formants do not move with the pitch, so another prototype may be nearer; where it is the same, it is turned.
    for seed, semitones in ((20, 1), (21, 3)):
        piece = compose(seed, SHORT)
        low, high = (tokenizers(sung(piece, up), 0)["vocal"][0].astype(np.int64) for up in (0, semitones))
        turned = (low // 12 == high // 12) & (low != high)
        assert turned.mean() > 0.08
        assert np.mean((high - low)[turned] % 12 == semitones) > 0.9


# ---- shards ----


def made_song(number: int, quanta: int) -> Tokens:
    """A song whose codes tell which it is, and its beat which quantum."""
    random = np.random.default_rng(number)
    song = {name: random.integers(0, 40, (rows, quanta * frames)) for name, (rows, frames) in FRAMES.items()}
    song["codes"][:] = number
    song["beat"][0] = np.arange(2 * quanta) // 2
    return {name: tokens.astype(np.int16) for name, tokens in song.items()}


def write(folder: Path, shards: int, songs: int, quanta: int = 89) -> None:
    folder.mkdir()
    for shard in range(shards):
        made = {s: made_song(shard * songs + s, quanta) for s in range(songs)}
        np.savez(shard_path(folder, shard), **{f"{s}.{n}": a for s, t in made.items() for n, a in t.items()})  # type: ignore[arg-type]


def reader(folder: Path, cuts: int = 1) -> ShardReader:
    return ShardReader(folder, "codes", CLIP, rows=4, seed=0, cuts=cuts, batches_held=2)


def numbers(crops: list[Tokens]) -> set[int]:
    """Which songs they are of."""
    return {int(tokens["codes"][0, 0]) for tokens in crops}


def test_a_crop_keeps_all_rates_together() -> None:
    song = made_song(0, 10)
    part = crop(song, 2, 3)
    assert part.keys() == song.keys()
    for name, (_, frames) in FRAMES.items():
        np.testing.assert_array_equal(part[name], song[name][:, 2 * frames : 5 * frames])


def test_a_batch_is_crops_of_the_clips_length_from_one_place_at_every_rate(tmp_path: Path) -> None:
    write(tmp_path / "shards", shards=8, songs=2)
    songs = [made_song(number, 89) for number in range(16)]
    for tokens in reader(tmp_path / "shards").batch():
        whole = songs[int(tokens["codes"][0, 0])]
        for name, array in crop(whole, int(tokens["beat"][0, 0]), 30).items():
            np.testing.assert_array_equal(tokens[name], array)


def test_a_reader_meets_no_song_again_and_goes_on_with_the_next_shard(tmp_path: Path) -> None:
    write(tmp_path / "shards", shards=12, songs=2)
    read = reader(tmp_path / "shards")
    met = set.union(*(numbers(read.batch()) for _ in range(4)))
    state = read.state_dict()
    first_of_next = state["number"] * 2
    resumed = reader(tmp_path / "shards")
    resumed.load_state_dict(state)
    assert met <= set(range(first_of_next))
    assert min(numbers(resumed.batch())) >= first_of_next


def test_no_crop_is_drawn_twice(tmp_path: Path) -> None:
    write(tmp_path / "shards", shards=12, songs=2)
    read = reader(tmp_path / "shards")
    drawn = [(int(t["codes"][0, 0]), int(t["beat"][0, 0])) for _ in range(6) for t in read.batch()]
    assert len(set(drawn)) == len(drawn)


def test_each_cut_takes_the_song_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "shards", shards=8, songs=1)
    read = reader(tmp_path / "shards", cuts=4)
    read.batch()
    # Wherever a cut starts, two whole clips of 30 quanta fit into 89.
    assert len(read.held) + 4 == 2 * 4 * read.number
    starts = {(int(tokens["codes"][0, 0]), int(tokens["beat"][0, 0])) for tokens in read.held}
    assert len(starts) > len(read.held) // 2


def test_the_seed_decides_the_batches(tmp_path: Path) -> None:
    write(tmp_path / "shards", shards=8, songs=2)

    def first(seed: int) -> bytes:
        read = ShardReader(tmp_path / "shards", "codes", CLIP, rows=4, seed=seed, batches_held=2)
        return b"".join(tokens["vocal"].tobytes() for tokens in read.batch())

    assert first(1) == first(1) != first(2)


def test_songs_shorter_than_the_clip_are_refused_with_the_remedy(tmp_path: Path) -> None:
    write(tmp_path / "shards", shards=1, songs=1, quanta=29)
    with pytest.raises(ValueError, match=r"a song of 1\.16 s .* clip of 1\.2 s: .* longer songs"):
        reader(tmp_path / "shards").batch()


# ---- the side process ----


@pytest.mark.slow  # a process starts
def test_the_song_makers_failure_reaches_the_trainer(tmp_path: Path, tokenizers: Tokenizers) -> None:
    (tmp_path / "failed.txt").write_text("an older failure, mended since")
    world = dataclasses.replace(TRIO, bars=3)
    with (
        producer(tmp_path, partial(write_numbered, tokenizers=tokenizers, world=world, seed=0, songs=1)),
        pytest.raises(
            RuntimeError, match=r"(?s)the process that composes the songs has failed.*3 bars has no two halves"
        ),
    ):
        reader(tmp_path).batch()


def killed(path: Path, number: int) -> None:
    """In place of what writes shards: the system ends it, as it does where there is no memory left."""
    os.kill(os.getpid(), signal.SIGKILL)


def empty(path: Path, number: int) -> None:
    path.touch()


@pytest.mark.slow  # a process starts
def test_a_song_maker_that_is_killed_is_missed(tmp_path: Path) -> None:
    with producer(tmp_path, killed), pytest.raises(RuntimeError, match="ended with exit code -9"):
        reader(tmp_path).batch()


@pytest.mark.slow  # two processes start
def test_the_song_maker_does_not_outlive_a_trainer_that_is_killed(tmp_path: Path) -> None:
    """Else it would hold the lock for which the next run's waits."""
    trainer = (
        "import os, pathlib, signal\n"
        "from backline.training.tokens import await_shard, producer\n"
        "from tests.training.test_tokens import empty\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "if __name__ == '__main__':\n"
        "    with producer(folder, empty):\n"
        "        await_shard(folder, 0)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "trainer.py").write_text(trainer)
    roots = [str(Path(__file__).parents[2]), *sys.path]
    ended = subprocess.run(
        [sys.executable, tmp_path / "trainer.py"], env=os.environ | {"PYTHONPATH": os.pathsep.join(roots)}, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # hangs, and the suite's time limit says so, where it lives on


@pytest.mark.slow  # a process starts, and renders
@pytest.mark.skipif(missing() is not None, reason=f"songs cannot be rendered: {missing()}")
def test_a_reader_gets_the_songs_that_the_side_process_makes(tmp_path: Path, tokenizers: Tokenizers) -> None:
    with producer(tmp_path / "shards", partial(write_numbered, tokenizers=tokenizers, world=SHORT, seed=0, songs=2)):
        batch = reader(tmp_path / "shards").batch()
    assert all(tokens["codes"].shape == (8, 90) for tokens in batch)
    write_shard(tmp_path / "again.npz", tokenizers, SHORT, 0, 2)  # what run 0 makes first
    for made, again in zip(
        read_tokens(shard_path(tmp_path / "shards", 0)), read_tokens(tmp_path / "again.npz"), strict=True
    ):
        assert made.keys() == again.keys()
        for name in made:
            # Another process sums in another order now and then, and an entry just as near is chosen.
            assert made[name].shape == again[name].shape
            assert (made[name] == again[name]).mean() > 0.999
