"""Strangers beside two who play: a short run of `bench/fuzz.py` against a server in a process of its own."""

from __future__ import annotations

from pathlib import Path

from hostile.cases import KINDS, STREAM, Call, case, cases
from hostile.fuzzing import fuzz

from backline.cli.connection import server_process
from backline.models.hafm.load import tiny_random
from backline.packs.pack import write_pack

CALLS = 100
PATIENCE_SECONDS = 5.0  # by which output may come late on a machine that runs other tests as well


def test_a_case_is_told_by_its_seed_and_number() -> None:
    assert case(3, 17, "tiny") == case(3, 17, "tiny")
    assert [made.number for made in cases(3, 20, "tiny")] == list(range(len(list(cases(3, 20, "tiny")))))
    assert len({repr(case(seed, number, "tiny")) for seed in range(3) for number in range(20)}) == 60


def test_a_short_run_has_every_kind_of_case_and_reaches_the_model() -> None:
    made = list(cases(0, 600, "tiny"))
    assert {one.kind for one in made} == set(KINDS)
    streams = [call for one in made for call in one.calls if isinstance(call, Call) and call.method == STREAM]
    assert sum(len(call.actions) > 100 for call in streams) > 10, "sessions long enough for chunks"


def test_strangers_are_noticed_by_nobody(tmp_path: Path) -> None:
    """Growth of memory is for the long run to tell: here, hardly anything has been kept yet."""
    write_pack(tmp_path / "packs" / "tiny", *tiny_random(layout="aligned"))
    log = tmp_path / "server.log"
    said: list[str] = []
    with server_process([tmp_path / "packs"], log=log) as server:
        report = fuzz(
            server,
            log,
            "tiny",
            [],
            cases(0, CALLS, "tiny"),
            lambda case: f"python bench/fuzz.py --seed {case.seed} --packs PACKS --pack tiny --case {case.number}",
            said.append,
            PATIENCE_SECONDS,
        )
    failures = [failure for failure in report.failures if not failure.startswith("memory was")]
    assert not failures, "\n".join(failures)
    assert report.calls >= CALLS
    assert report.bystander_chunks > 4, "the two have played"
    assert {"OK", "INVALID_ARGUMENT", "CANCELLED"} <= set(report.statuses)
