"""The ledger names every part of the latency and adds up; the measured parts change by steps."""

import numpy as np
import pytest

from backline.engine.ledger import NAMES, OBSERVATIONS, OBSERVATIONS_BETWEEN_LOOKS, LedgerBook
from backline.models.stream import LatencyItem
from tests.support.playing import open_session, running, settle
from tests.support.streams import GainStream


def make_book(**changes: float) -> LedgerBook:
    values = {
        "input_seconds": 0.003, "output_seconds": 0.002, "compute_seconds": 0.02, "queue_seconds": 0.0,
        "jitter_buffer_seconds": 0.005,
    } | changes  # fmt: skip
    items = (
        LatencyItem("front_end", 0.02, "encoder look-ahead"),
        LatencyItem("visibility", 0.8),
        LatencyItem("codec", 0.01),
    )
    return LedgerBook(items, sample_rate=48_000, block_size=480, **values)


def seconds(book: LedgerBook) -> dict[str, float]:
    return {item.name: item.seconds for item in book.current.items}


def test_every_item_is_there_once_and_in_the_order_of_the_signals_way() -> None:
    assert tuple(item.name for item in make_book().current.items) == NAMES


def test_items_of_model_resampler_and_client_add_up() -> None:
    book = make_book()
    expected = {
        "capture": 0.01, "network": 0.002, "queue": 0.001, "front_end": 0.023, "visibility": 0.8, "compute": 0.04,
        "codec": 0.012, "jitter_buffer": 0.005,
    }  # fmt: skip
    assert seconds(book) == pytest.approx(expected)
    assert book.current.total_seconds == pytest.approx(sum(expected.values()))
    assert book.current.latency_samples == int(np.ceil(round(sum(expected.values()) * 48_000, 6)))
    assert "encoder look-ahead; resampling" in book.current.items[3].explanation


def test_playing_ahead_can_cost_nothing_but_never_less() -> None:
    book = LedgerBook(
        (LatencyItem("visibility", -2.0),), sample_rate=48_000, block_size=64, input_seconds=0.0, output_seconds=0.0,
        compute_seconds=0.1, queue_seconds=0.0, jitter_buffer_seconds=0.0,
    )  # fmt: skip
    assert book.current.latency_samples == 0


def test_slower_chunks_make_the_ledger_grow_once_and_say_that_it_is_measured() -> None:
    book = make_book()
    changes = [book.observe(0.0, 0.1) for _ in range(10 * OBSERVATIONS_BETWEEN_LOOKS)]
    assert sum(change is not None for change in changes) == 1
    compute = next(item for item in book.current.items if item.name == "compute")
    assert compute.seconds == pytest.approx(0.12)
    assert compute.measured
    assert "90th percentile of the last 16 chunks" in compute.explanation


def test_a_single_stumble_of_the_machine_changes_nothing() -> None:
    book = make_book()
    assert all(book.observe(0.0, 0.5 if chunk in (3, 200) else 0.02) is None for chunk in range(300))


def test_small_moves_and_faster_chunks_change_nothing() -> None:
    book = make_book()
    before = book.current
    assert all(book.observe(0.0005, 0.031) is None for _ in range(100))
    assert all(book.observe(0.0005, 0.028) is None for _ in range(300))
    assert book.current == before


def test_what_a_whole_window_of_chunks_has_not_needed_is_announced_no_longer() -> None:
    book = make_book(queue_seconds=0.2)
    assert book.expect_queue(0.05) is None  # somebody has left: nothing is known yet
    first = book.promised_samples
    changes = [book.observe(0.0, 0.01) for _ in range(2 * OBSERVATIONS)]
    assert [number + 1 for number, change in enumerate(changes) if change is not None] == [OBSERVATIONS]
    assert seconds(book)["compute"] == pytest.approx(0.02)
    assert seconds(book)["queue"] == pytest.approx(0.051), "what the others may cost stays"
    assert book.current.latency_samples < first
    assert book.promised_samples == first, "who plays by what was announced is not late"


def test_a_ledger_that_has_fallen_grows_again() -> None:
    book = make_book()
    for _ in range(OBSERVATIONS):
        book.observe(0.0, 0.005)
    fallen = seconds(book)["compute"]
    for _ in range(OBSERVATIONS):
        book.observe(0.0, 0.03)
    assert seconds(book)["compute"] == pytest.approx(0.036), "a fifth more than the 99th percentile"
    assert fallen == pytest.approx(0.01)


def test_company_on_the_engine_is_expected_in_the_queue() -> None:
    book = make_book()
    changed = book.expect_queue(0.3)
    assert changed is not None
    assert seconds(book)["queue"] == pytest.approx(0.301)
    assert book.expect_queue(0.1) is None


@pytest.mark.parametrize(("rate", "model_rate"), [(48_000, 24_000), (44_100, 24_000), (48_000, None), (16_000, 24_000)])
@pytest.mark.parametrize("look_ahead", [0, 333])
@pytest.mark.parametrize("visibility", [0.08, 0.04, -0.02])
def test_what_follows_from_contracts_is_what_chunks_really_wait_for(
    rate: int, model_rate: int | None, look_ahead: int, visibility: float
) -> None:
    """The worst sample of any chunk comes out exactly as late as front_end, visibility and codec say."""
    stream = GainStream(rate=model_rate, look_ahead=look_ahead)
    with running(gain=stream) as engine:
        session, heard = open_session(
            engine, "gain", 8192, channels=1, sample_rate=rate, offline=False, visibility_seconds=visibility
        )
        declared = sum(i.seconds for i in session.ledger.items if i.name in ("front_end", "visibility", "codec")) * rate
        waits: list[int] = []
        while len(waits) < 6:
            needed, before = session.take.needed, len(heard.blocks())
            end = session.takes.timeline.end
            session.write(end, np.zeros((1, max(1, needed - end)), np.float32))
            settle(engine)
            # The first block starts at 0, whatever the model would have said before that.
            waits += [session.takes.timeline.end - block.position for block in heard.blocks()[max(1, before) :]]
        assert max(waits) == pytest.approx(declared, abs=2)
