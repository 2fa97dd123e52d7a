"""What teaches DuoTok's encoder: losses against slow oracles, and the noise of Eq. 1."""

import itertools
import math

import pytest
import torch

from backline.codecs.duotok.heads import (
    BLANK,
    Heads,
    HeadsConfig,
    Replacement,
    chroma_loss,
    edits,
    masks_loss,
    mel_loss,
    needed,
    spelt,
    words_loss,
)

WIDTH = 8
CONFIG = HeadsConfig(WIDTH, bands=3, mels=4, words=5, mask_bands=6)


def test_heads_tell_each_frame_from_itself_alone_in_the_order_of_time() -> None:
    torch.manual_seed(0)
    heads, hidden = Heads(CONFIG), torch.randn(2, 7, WIDTH)
    mel, masks = heads.mel_frames(hidden), heads.mask_frames(hidden)
    assert mel.shape == (2, 28, 3)
    assert masks.shape == (2, 4, 6, 28)
    assert ((masks > 0) & (masks < 1)).all()
    other = hidden.clone()
    other[:, 3] += 1
    for changed, told in (
        (heads.mel_frames(other), mel),
        (heads.mask_frames(other).transpose(1, 3), masks.transpose(1, 3)),
    ):
        differs = (changed != told).flatten(2).any(2).any(0)
        assert differs.nonzero().flatten().tolist() == [12, 13, 14, 15]


def test_heads_that_are_not_wanted_have_no_weights() -> None:
    heads = Heads(HeadsConfig(WIDTH, 3, 4))
    assert heads.words is None
    assert heads.masks is None
    assert {name.split(".")[0] for name in heads.state_dict()} == {"mel", "chroma"}


def test_replaced_frames_are_gaussian_with_the_mean_and_deviation_of_what_was_seen() -> None:
    """Eq. 1, by the plain statistics of all batches."""
    torch.manual_seed(0)
    replacement = Replacement(WIDTH, 0.2)
    scale, shift = torch.arange(1.0, WIDTH + 1), torch.arange(WIDTH) - 3.0
    batches = [shift + scale * torch.randn(16, 100, WIDTH) for _ in range(20)]
    replaced, fresh = 0, []
    for hidden in batches:
        out = replacement(hidden)
        changed = (out != hidden).any(-1)
        assert (out[~changed] == hidden[~changed]).all()
        assert (out != hidden)[changed].all()  # a frame is replaced whole
        replaced += int(changed.sum())
        fresh.append(out[changed])
    every = torch.cat(batches).flatten(0, 1)
    assert torch.allclose(replacement.mean, every.mean(0), atol=1e-3)
    assert torch.allclose(replacement.deviation, every.std(0), rtol=1e-3)
    assert replaced / len(every) == pytest.approx(0.2, abs=0.01)
    noise = torch.cat(fresh)
    assert torch.allclose(noise.mean(0), shift, atol=0.4)
    assert torch.allclose(noise.std(0), scale, rtol=0.05)


def test_the_statistics_of_the_noise_forget() -> None:
    replacement = Replacement(1, 0.0, kept=0.5)
    for value in (0.0, 0.0, 8.0):
        replacement(torch.full((1, 4, 1), value))
    assert replacement.mean.item() == pytest.approx(4.0)


def test_without_noise_nothing_is_replaced() -> None:
    hidden = torch.randn(4, 50, WIDTH)
    assert torch.equal(Replacement(WIDTH, 0.0)(hidden), hidden)


def test_mel_loss_is_the_mean_absolute_difference() -> None:
    assert mel_loss(torch.zeros(1, 4, 2), torch.tensor([[[1.0, -1], [2, 2], [0, 0], [0, 0]]])).item() == 0.75


def test_chroma_loss_is_the_cross_entropy_of_the_frames_that_sound() -> None:
    torch.manual_seed(0)
    logits, wanted = torch.randn(2, 3, 12), torch.rand(2, 3, 12)
    wanted /= wanted.sum(-1, keepdim=True)
    wanted[0, 1] = 0
    sums = []
    for row, frame in itertools.product(range(2), range(3)):
        if (row, frame) != (0, 1):
            shares = torch.softmax(logits[row, frame], 0)
            sums.append(-sum(float(wanted[row, frame, c]) * math.log(float(shares[c])) for c in range(12)))
    assert chroma_loss(logits, wanted).item() == pytest.approx(sum(sums) / 5, rel=1e-5)


def test_silence_has_no_chroma_loss() -> None:
    logits = torch.randn(1, 3, 12, requires_grad=True)
    loss = chroma_loss(logits, torch.zeros(1, 3, 12))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_words_loss_sums_over_all_alignments() -> None:
    """CTC, by every path of five frames there is."""
    torch.manual_seed(0)
    logits, words = torch.randn(2, 5, 4), [torch.tensor([1, 1]), torch.tensor([3])]
    shares = logits.softmax(-1)
    nats = 0.0
    for row, wanted in enumerate(words):
        chance = 0.0
        for path in itertools.product(range(4), repeat=5):
            told = [word for word, _ in itertools.groupby(path) if word != BLANK]
            if told == wanted.tolist():
                chance += math.prod(float(shares[row, frame, word]) for frame, word in enumerate(path))
        nats -= math.log(chance)
    assert words_loss(logits, words).item() == pytest.approx(nats / 3, rel=1e-5)


def test_rows_without_words_or_with_more_than_their_frames_can_tell_do_not_count() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 4)
    none, too_many = torch.tensor([], dtype=torch.int64), torch.tensor([2, 2, 2])  # that needs five frames
    assert needed(too_many) == 5
    alone = words_loss(logits[:1], [torch.tensor([1, 2])])
    assert torch.equal(words_loss(logits, [torch.tensor([1, 2]), none, too_many]), alone)
    assert words_loss(logits, [none, none, too_many]).item() == 0


def test_masks_loss_is_eq_3_over_the_rows_whose_masks_are_known() -> None:
    torch.manual_seed(0)
    found, wanted = torch.rand(3, 4, 6, 8), torch.rand(3, 4, 6, 8)
    known = torch.tensor([True, False, True])
    by_track = [(found[known, track] - wanted[known, track]).abs().mean() for track in range(4)]
    assert masks_loss(found, wanted, known).item() == pytest.approx(float(sum(by_track) / 4))
    assert masks_loss(found, wanted, torch.zeros(3, dtype=torch.bool)).item() == 0


def test_what_is_spelt_has_no_blanks_and_no_repeats() -> None:
    path = torch.tensor([0, 2, 2, 0, 2, 1, 1, 0])
    assert spelt(torch.nn.functional.one_hot(path, 3).float()[None]) == [[2, 2, 1]]


@pytest.mark.parametrize(
    ("found", "wanted", "count"),
    [
        ([], [], 0),
        ([1, 2], [1, 2], 0),
        ([], [1, 2], 2),
        ([1, 2, 3], [2, 3], 1),
        ([3, 1, 2], [1, 2, 3], 2),
        ([1], [2], 1),
    ],
)
def test_edits_are_the_fewest(found: list[int], wanted: list[int], count: int) -> None:
    assert edits(found, wanted) == edits(wanted, found) == count
