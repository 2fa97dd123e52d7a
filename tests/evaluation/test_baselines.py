"""What generated music is compared with is fair: other pieces, never held-out ones, and the codec's own best."""

import numpy as np
import pytest

from backline.codecs.convnext import ConvNeXtCodec
from backline.evaluation.baselines import Pool, derangement, fitted, separated_vocal, through_codec
from backline.evaluation.codec import decode, encode
from backline.measures.spectra import si_sdr
from backline.models.hafm.load import TINY_CODEC
from backline.music.composer import compose
from backline.music.seeds import HELD_OUT_SEED
from backline.music.world import NARROW, WIDE, World


@pytest.mark.parametrize("count", [2, 3, 7, 24])
@pytest.mark.parametrize("seed", range(5))
def test_shuffling_gives_every_piece_another_and_takes_each_once(count: int, seed: int) -> None:
    pairs = derangement(count, seed)
    assert sorted(pairs) == list(range(count))
    assert all(other != own for own, other in enumerate(pairs))
    assert pairs == derangement(count, seed)


def test_one_piece_cannot_be_shuffled() -> None:
    with pytest.raises(ValueError, match="use at least 2"):
        derangement(1, 0)


def test_what_is_fitted_is_cut_or_begins_again() -> None:
    sound = np.arange(3, dtype=np.float32)
    assert fitted(sound, 2).tolist() == [0, 1]
    assert fitted(sound, 7).tolist() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("world", [NARROW, WIDE])
def test_retrieval_matches_the_key_takes_the_nearest_tempo_and_nothing_held_out(world: World) -> None:
    pool = Pool.of_training(world, 200)
    assert all(piece.seed < HELD_OUT_SEED for piece in pool.pieces)
    for number in range(10):
        wanted = compose(HELD_OUT_SEED + number, world)
        found = pool.nearest(wanted)
        assert found.key == wanted.key
        comparable = [piece for piece in pool.pieces if piece.key == wanted.key and piece.metre == found.metre]
        assert abs(found.tempo - wanted.tempo) == min(abs(piece.tempo - wanted.tempo) for piece in comparable)
        same_metre = any(piece.key == wanted.key and piece.metre == wanted.metre for piece in pool.pieces)
        assert (found.metre == wanted.metre) == same_metre


def test_a_pool_of_held_out_pieces_or_without_the_key_is_refused() -> None:
    with pytest.raises(ValueError, match="are held out"):
        Pool.of(NARROW, [HELD_OUT_SEED - 1, HELD_OUT_SEED])
    piece = compose(0, NARROW)
    foreign = Pool(tuple(other for other in Pool.of_training(NARROW, 20).pieces if other.key != piece.key))
    with pytest.raises(ValueError, match="use a larger pool"):
        foreign.nearest(piece)


def test_through_a_codec_comes_what_it_decodes_as_long_as_it_was() -> None:
    codec = ConvNeXtCodec(TINY_CODEC)
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 24_000).astype(np.float32)
    exact, ragged = through_codec(codec, [sound, sound[:-7]], codec.sample_rate)
    np.testing.assert_array_equal(exact, decode(codec, encode(codec, sound)))
    assert len(ragged) == len(sound) - 7
    (resampled,) = through_codec(codec, [sound], 48_000)
    assert len(resampled) == len(sound)


def test_a_separated_vocal_is_the_vocal_where_the_band_is_elsewhere_and_some_band_where_it_is_not() -> None:
    time = np.arange(24_001) / 24_000
    vocal = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    apart, close = (np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (3000, 443))
    clean, mixed = separated_vocal(vocal, apart), separated_vocal(vocal, close)
    assert clean.shape == vocal.shape
    assert si_sdr(clean, vocal) > 30
    assert si_sdr(mixed, vocal) < 10
