"""BEST-RQ: targets against a slow oracle, of the clean sound only, and masks of the promised size."""

import pytest
import torch

from backline.nn.bestrq import MASK_DEVIATION, MASK_SHARE, BestRQ, masked, stacked

RATE, TOKEN = 24_000, 960


def test_targets_are_the_nearest_entries_on_the_sphere() -> None:
    targets = BestRQ(12, code_dim=4, entries=50, seed=2)
    features = torch.randn(2, 9, 12)
    found = targets(features)
    for row in range(2):
        for frame in range(9):
            projected = features[row, frame] @ targets.projection
            projected = projected / projected.norm()
            distances = [float((projected - entry / entry.norm()).norm()) for entry in targets.codebook]
            assert distances[int(found[row, frame])] == pytest.approx(min(distances), abs=1e-5)


def test_targets_are_chances_own_and_neither_learn_nor_are_stored() -> None:
    targets = BestRQ(320, 16, 1024, seed=5)
    assert not list(targets.parameters())
    assert not targets.state_dict()
    assert targets.projection.std() == pytest.approx((2 / (320 + 16)) ** 0.5, rel=0.05)  # Xavier's
    features = torch.randn(4, 200, 320)
    assert torch.equal(BestRQ(320, 16, 1024, seed=5)(features), targets(features))
    assert not torch.equal(BestRQ(320, 16, 1024, seed=6)(features), targets(features))
    assert len(targets(features).unique()) > 250  # of 800 frames


def test_targets_do_not_know_how_loud_a_frame_is() -> None:
    targets = BestRQ(12, 4, 50)
    features = torch.randn(1, 20, 12)
    assert torch.equal(targets(features), targets(3.0 * features))


def test_frames_are_stacked_in_their_order() -> None:
    mels = torch.arange(2 * 8 * 3).view(2, 8, 3)
    rows = stacked(mels, 4)
    assert rows.shape == (2, 2, 12)
    assert torch.equal(rows[1, 1], torch.cat([mels[1, frame] for frame in range(4, 8)]))


def test_masks_are_whole_blocks_of_noise_and_the_rest_is_untouched() -> None:
    audio = torch.ones(50, 8 * RATE)
    noised, hidden = masked(audio, RATE, TOKEN, torch.Generator().manual_seed(0))
    assert hidden.shape == (50, 200)
    blocks = hidden.view(50, 20, 10)
    assert torch.equal(blocks.all(-1), blocks.any(-1))  # of 0.4 s
    assert hidden.float().mean() == pytest.approx(MASK_SHARE, abs=0.05)
    spots = hidden.repeat_interleave(TOKEN, dim=1)
    assert torch.equal(noised[~spots], audio[~spots])
    noise = noised[spots]
    assert abs(float(noise.mean())) < 1e-3
    assert float(noise.std()) == pytest.approx(MASK_DEVIATION, rel=0.01)


def test_what_is_left_over_of_blocks_is_not_masked() -> None:
    audio = torch.ones(3, 13 * TOKEN + 5)
    noised, hidden = masked(audio, RATE, TOKEN, share=1.0)
    assert hidden.tolist() == [[True] * 10 + [False] * 3] * 3
    assert torch.equal(noised[:, 10 * TOKEN :], audio[:, 10 * TOKEN :])
    assert not (noised[:, : 10 * TOKEN] == 1).any()
