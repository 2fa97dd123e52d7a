"""Songs as latents: which sums of stems there are, what is kept of them, and the rows that are drawn."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from backline.corpus.multitrack import Multitrack, StemsMissing
from backline.models.mge.tasks import MIXTURE, SOURCE, SUBMIXTURE, TASKS
from backline.models.mge.words import WHOLE, labels_of, words_of
from backline.music.world import ENSEMBLE
from backline.nn.diffusion import LEAST_TIME
from backline.training.mge_rows import PAPER, SMALL, Drawing, window
from backline.training.mge_songs import Encoded, Encoder, Pool, read_songs, spread, subsets_of, write_songs
from backline.training.tokens import await_shard, producer, shard_path
from tests.support.toy_mge import Tones, ToyVae, hear, named

READERS = [named]


def encoded(seed: int = 0, varied: bool = False) -> Encoded:
    return Encoder(ToyVae(), hear, Tones())(seed, varied)


def drawing(seed: int = 0, times: str = "frame", **changes: object) -> Drawing:
    return Drawing(replace(SMALL, **changes), READERS, 8, times, seed)  # type: ignore[arg-type]


def only(task: str) -> tuple[float, ...]:
    return tuple(float(name == task) for name in TASKS)


def test_the_subsets_are_none_each_all_but_each_and_all() -> None:
    assert subsets_of(3).astype(int).tolist() == [
        [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1]
    ]  # fmt: skip
    assert subsets_of(2).astype(int).tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]


def test_every_subset_has_the_latents_of_its_sum() -> None:
    """The toy's encoder is linear, so sums of stems have sums of latents."""
    song = encoded()
    assert song.latents.shape == (8, 4, 20)
    assert np.abs(song.latents[0]).max() == 0
    for subset, latents in zip(song.subsets, song.latents.astype(np.float32), strict=True):
        wanted = song.latents.astype(np.float32)[1:4][subset].sum(axis=0) if subset.any() else np.zeros((4, 20))
        np.testing.assert_allclose(latents, wanted, atol=2e-3)
    assert [song.rest(subset) for subset in range(8)] == [7, 4, 5, 6, 1, 2, 3, 0]
    assert song.named(4) == [("drums",), ("electric bass", "bass")]


def test_a_varied_song_is_another_mix_of_the_same_seed() -> None:
    plain, varied = encoded(), encoded(varied=True)
    assert not np.array_equal(plain.latents[-1], varied.latents[-1])
    np.testing.assert_array_equal(varied.latents, encoded(varied=True).latents)


def test_a_song_of_one_stem_teaches_nothing() -> None:
    class Solo(Tones):
        def song(self, seed: int) -> Multitrack:
            made = super().song(seed)
            made.labels = {"vocals": "vocals"}  # type: ignore[misc]
            return made

    with pytest.raises(StemsMissing, match="fewer than two stems"):
        Encoder(ToyVae(), hear, Solo())(0)


def test_a_shard_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = shard_path(tmp_path, 3)
    encoder = Encoder(ToyVae(), hear, Tones())
    write_songs(path, 3, encoder, seed=0, songs=2)
    first, second = read_songs(path)
    wanted = encoder(6)
    assert first.labels == wanted.labels
    for found, made in ((first.latents, wanted.latents), (first.heard, wanted.heard), (first.subsets, wanted.subsets)):
        np.testing.assert_array_equal(found, made)
    assert not np.array_equal(first.latents, second.latents)


def test_a_pool_keeps_the_newest_songs_and_waits_for_none(tmp_path: Path) -> None:
    encoder, pool = Encoder(ToyVae(), hear, Tones()), Pool(tmp_path, most=5)
    sizes = []
    for numbers in ((0,), (), (1, 2), (3,), ()):
        for number in numbers:
            write_songs(shard_path(tmp_path, number), number, encoder, 0, 2)
        pool.refresh()
        sizes.append(len(pool.songs))
    assert sizes == [2, 2, 6, 6, 6]  # whole shards, of as many songs as are to stay, or more
    for latents, seed in zip([song.latents for song in pool.songs], range(2, 8), strict=True):
        np.testing.assert_array_equal(latents, encoder(seed).latents)
    assert not shard_path(tmp_path, 0).exists()
    resumed = Pool(tmp_path, most=5)
    resumed.refresh()
    assert len(resumed.songs) == 6
    assert resumed.number == 4


@pytest.mark.slow  # a process starts
def test_a_side_process_does_not_write_again_what_all_have_read(tmp_path: Path) -> None:
    encoder = Encoder(ToyVae(), hear, Tones())
    write_songs(shard_path(tmp_path, 2), 2, encoder, 0, 2)
    with producer(tmp_path, partial(write_songs, encoder=encoder, seed=0, songs=2)):
        await_shard(tmp_path, 3)
    assert not shard_path(tmp_path, 0).exists()


@pytest.mark.parametrize("there", [0, 1], ids=["none yet", "some there"])
def test_a_pool_says_why_no_song_comes(tmp_path: Path, there: int) -> None:
    pool, encoder = Pool(tmp_path), Encoder(ToyVae(), hear, Tones())
    for number in range(there):
        write_songs(shard_path(tmp_path, number), number, encoder, 0, 1)
        pool.refresh()
    (tmp_path / "failed.txt").write_text("the disk is full")
    with pytest.raises(RuntimeError, match="the disk is full"):
        pool.refresh()


def test_the_world_to_ask_in_has_instruments_of_twenty_names() -> None:
    names = {labels_of(part, getattr(band, part))[0] for band in ENSEMBLE.bands for part in ("bass", "comp")}
    names |= {labels_of("pad", band.pad)[0] for band in ENSEMBLE.bands if band.pad is not None}
    assert len(names) >= 20


@pytest.mark.slow  # a process starts
def test_a_side_process_writes_songs(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    with producer(tmp_path, partial(write_songs, encoder=Encoder(ToyVae(), hear, Tones()), seed=0, songs=2)):
        pool.refresh()
    np.testing.assert_array_equal(pool.songs[0].latents, Encoder(ToyVae(), hear, Tones())(0).latents)


def test_latents_have_mean_and_spread() -> None:
    songs = [encoded(seed) for seed in range(4)]
    mean, deviation = spread(songs)
    every = np.concatenate([song.latents[1:].astype(np.float32) for song in songs])
    np.testing.assert_allclose(mean, every.mean(axis=(0, 2)), atol=1e-4)
    assert deviation.item() == pytest.approx(np.sqrt(((every - mean.numpy()[:, None]) ** 2).mean()), rel=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_a_row_is_a_source_the_rest_and_the_whole_at_the_times_of_its_task(task: str) -> None:
    draw = drawing(tasks=only(task), past=0.0)
    for _ in range(20):
        clean, times, _ = draw.row(encoded())
        mixture, rest, source = clean
        torch.testing.assert_close(rest + source, mixture, atol=5e-3, rtol=0)
        noisy = [track for track in range(3) if times[track].max() > 0]
        given = TASKS[task].given
        assert noisy == [track for track in range(3) if track != given]
        assert (times[noisy] == times[noisy][0, 0]).all()
        assert LEAST_TIME <= times.max() <= 1


def test_the_past_of_all_tracks_is_clean_in_some_rows() -> None:
    draw = drawing(tasks=only("generate"), past=0.5)
    rows = [draw.row(encoded())[1] for _ in range(200)]
    begun = [times for times in rows if (times[:, 0] == 0).all()]
    assert 70 < len(begun) < 130
    for times in begun:
        clean = times == 0
        assert (clean == clean[0]).all()
        assert not (clean[:, 1:] & ~clean[:, :-1]).any(), "what is clean is a beginning"
        assert not clean[:, -1].any(), "and never all"


def test_a_network_of_one_time_a_track_gets_one() -> None:
    draw = Drawing(PAPER, READERS, 8, "token", 0)
    assert draw.row(encoded())[1].shape == (3, 1)


def test_conditions_are_where_the_task_asks() -> None:
    for name, task in TASKS.items():
        draw = drawing(tasks=only(name), dropped=0.0, dropped_else=1.0)
        for _ in range(10):
            condition = draw.row(encoded())[2]
            assert [track for track in range(3) if condition[track].any()] == [task.asked]


def test_a_condition_lies_between_a_phrase_and_what_is_heard() -> None:
    """All distances are as likely; other tracks are known by their sound alone."""
    song = encoded()
    draw = drawing(tasks=only("extract"), sources=(1.0, 0.0, 0.0, 0.0), dropped=0.0, dropped_else=0.0)
    shares = []
    for _ in range(200):
        condition = draw.row(song)[2]
        share = condition[SOURCE, 3].item()  # nothing is heard there
        assert condition[SOURCE, :3].norm().item() == pytest.approx(1 - share, abs=1e-3)
        shares.append(share)
        whole = F.normalize(torch.from_numpy(song.heard[-1].astype(np.float32).mean(0)), dim=0)
        torch.testing.assert_close(condition[MIXTURE], whole, atol=0.05, rtol=0)
    assert np.percentile(shares, [10, 50, 90]) == pytest.approx([0.1, 0.5, 0.9], abs=0.12)


def test_of_what_is_not_there_silence_is_the_answer() -> None:
    said: list[str] = []

    class Noting:
        def embed(self, text: str) -> Tensor:
            said.append(text)
            return torch.ones(4) / 2

    draw = Drawing(
        replace(SMALL, tasks=only("extract"), sources=(0.0, 0.0, 1.0, 0.0), dropped=0.0), [Noting()], 8, "frame", 0
    )
    for _ in range(30):
        clean, _, condition = draw.row(encoded())
        assert not clean[SOURCE].any()
        torch.testing.assert_close(clean[SUBMIXTURE], clean[MIXTURE])
        torch.testing.assert_close(condition[SOURCE], torch.ones(4) / 2)
    assert said
    assert not any(word in text.split() for text in said for word in ("vocals", "drums", "bass"))


def test_a_family_is_no_name_for_one_of_two_members() -> None:
    draw, family = drawing(), {"woodwind", "woodwinds", "wind", "winds", "reeds"}
    for other, told in (("flute", False), ("piano", True)):
        song = replace(encoded(), labels=(labels_of("clarinet"), labels_of(other), ("drums",)))
        asked = [str(draw.phrase(song, 1)).split() for _ in range(200)]
        assert any(family.intersection(words) for words in asked) == told


def test_stems_without_a_name_are_asked_for_by_their_sound_or_by_what_is_left_out() -> None:
    song = replace(encoded(), labels=(("piano", "keys"), (), ("drums",)))
    draw = drawing()
    none, piano, nameless, drums, but_piano, but_nameless, _, whole = range(8)
    assert draw.phrase(song, none) is None
    assert draw.phrase(song, nameless) is None
    words = {word for name in ("piano", "keys") for word in words_of(name)}
    for subset, asked_by in (
        (piano, words),
        (but_piano, words),
        (but_nameless, {*words_of("drums")}),
        (whole, {*WHOLE}),
    ):
        asked = [str(draw.phrase(song, subset)) for _ in range(50)]
        assert all(any(word in text for word in asked_by) for text in asked)
    assert {draw.source(song, "one") for _ in range(50)} == {piano, drums}


def test_of_a_song_with_a_stem_without_a_name_nothing_is_said_not_to_be_there() -> None:
    """The stem may be just that."""
    draw = drawing(tasks=only("extract"), sources=(0.0, 0.0, 1.0, 0.0))
    song = replace(encoded(), labels=(("vocals",), (), ("drums",)))
    assert all(draw.row(song)[0][SOURCE].any() for _ in range(20))


def test_a_short_song_goes_on_in_silence() -> None:
    song = encoded()
    cut = window(song, [7, 1], 15, 8)
    assert cut.shape == (2, 4, 8)
    np.testing.assert_array_equal(cut[:, :, :5], song.latents[[7, 1], :, 15:].astype(np.float32))
    assert not cut[:, :, 5:].any()


def test_drawing_goes_on_where_it_was() -> None:
    draw, songs = drawing(), [encoded(seed) for seed in range(3)]
    draw.batch(songs)
    again = drawing()
    again.load_state_dict(draw.state_dict())
    for found, wanted in zip(again.row(songs[0]), draw.row(songs[0]), strict=True):
        assert torch.equal(found, wanted)
