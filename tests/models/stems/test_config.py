"""The [stems] table, and the paper's sizes."""

from dataclasses import asdict, replace

import pytest

from backline.models.stems.config import StemsConfig
from backline.models.stems.network import parameter_counts
from backline.nn.tables import read_table


def test_the_defaults_are_as_large_as_the_paper_says() -> None:
    """MODELS.md B1."""
    assert {name: round(count / 1e6, 1) for name, count in parameter_counts(StemsConfig()).items()} == {
        "encoder": 108.9,
        "decoder": 1073.8,
        "tables": 134.2,
    }


def test_a_narrower_feed_forward_makes_the_other_size_of_the_paper() -> None:
    paper = StemsConfig()
    assert parameter_counts(replace(paper, decoder=replace(paper.decoder, feed_forward=5504)))[
        "decoder"
    ] == pytest.approx(809.6e6, rel=1e-3)


def test_what_a_pack_writes_is_read_back() -> None:
    config = replace(StemsConfig(), order="delay", tracks="parallel", condition="aligned", readout="mean")
    assert read_table(StemsConfig, asdict(config), "stems") == config
    assert read_table(StemsConfig, {}, "stems") == StemsConfig()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sise": 3}, "unknown entries .'sise'"),
        ({"order": "random"}, "order is 'random': use one of parallel, delay, flat"),
        ({"encoder": {"layers": 2}}, r"stems.encoder. lacks width, heads"),
        ({"decoder": {"layers": 2, "depth": 2}}, r"stems.decoder. has unknown entries .'depth'"),
        ({"mel": 3}, r"stems.mel. is 3: make it a table"),
    ],
)
def test_a_table_that_makes_no_network_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(StemsConfig, table, "stems")
