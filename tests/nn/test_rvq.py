"""Residual quantisation: each stage takes the nearest entry to what is left, and codebooks follow their data."""

import torch

from backline.nn.rvq import CodebookLearner, ResidualQuantizer, nearest


def test_codes_are_the_nearest_entries_of_what_is_left() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(dim=4, codebooks=3, entries=8)
    vectors = torch.randn(2, 4, 5)
    codes = quantizer.encode(vectors)
    for row in range(2):
        for frame in range(5):
            left = vectors[row, :, frame]
            for book in range(3):
                distances = [float((left - entry).norm()) for entry in quantizer.codebooks[book]]
                assert codes[row, book, frame] == distances.index(min(distances))
                left = left - quantizer.codebooks[book, codes[row, book, frame]]


def test_decoding_adds_up_entries_of_as_many_codebooks_as_are_given() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(dim=4, codebooks=3, entries=8)
    codes = torch.randint(8, (1, 3, 6))
    expected = sum(quantizer.codebooks[book, codes[0, book]] for book in range(2))
    assert isinstance(expected, torch.Tensor)
    assert torch.allclose(quantizer.decode(codes[:, :2])[0].T, expected)


def test_training_quantises_as_serving_does_and_passes_the_gradient_through() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(dim=4, codebooks=3, entries=8)
    vectors = torch.randn(2, 4, 5, requires_grad=True)
    quantized = quantizer(vectors)
    assert torch.equal(quantized.codes, quantizer.encode(vectors))
    assert torch.allclose(quantized.vectors, quantizer.decode(quantized.codes), atol=1e-6)
    (gradient,) = torch.autograd.grad(quantized.vectors.sum(), vectors)
    assert torch.equal(gradient, torch.ones_like(gradient))


def test_codebooks_started_from_clusters_find_them() -> None:
    torch.manual_seed(0)
    centres = 10 * torch.randn(8, 4)
    vectors = (centres[torch.arange(400) % 8] + 0.01 * torch.randn(400, 4)).T[None]
    quantizer = ResidualQuantizer(dim=4, codebooks=2, entries=32)
    CodebookLearner(quantizer).start(quantizer, vectors)
    error = (quantizer.decode(quantizer.encode(vectors)) - vectors).square().mean()
    assert error < 1e-3


def test_codebooks_follow_their_data() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(dim=2, codebooks=1, entries=4)
    learner = CodebookLearner(quantizer, decay=0.9)
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    learner.start(quantizer, corners[torch.arange(64) % 4].T[None])
    moved = (corners + torch.tensor([0.5, 0.0]))[torch.arange(64) % 4].T[None]
    for _ in range(300):
        learner.update(quantizer, quantizer(moved))
    assert (quantizer.decode(quantizer.encode(moved)) - moved).abs().max() < 0.05


def test_entries_that_none_fall_to_are_restarted_from_the_data() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(dim=2, codebooks=1, entries=16)
    learner = CodebookLearner(quantizer, decay=0.5)
    quantizer.codebooks[:] = 100.0 + torch.randn(1, 16, 2)  # far from everything
    data = torch.rand(1, 2, 256)
    restarted = sum(learner.update(quantizer, quantizer(data)) for _ in range(20))
    assert restarted > 0
    used = nearest(data[0].T, quantizer.codebooks[0]).unique()
    assert len(used) >= 14


def test_the_learners_state_survives_saving() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(dim=2, codebooks=2, entries=4)
    learner, other = CodebookLearner(quantizer), CodebookLearner(quantizer)
    learner.start(quantizer, torch.randn(1, 2, 50))
    other.load_state_dict(learner.state_dict())
    assert bool(other.started)
    assert torch.equal(other.sums, learner.sums)
