"""Has strangers call a server in every bad way beside two sessions that play, and fails where anybody notices.

python bench/fuzz.py --calls 2000 --seed 0 --pack default
python bench/fuzz.py --seed 0 --pack default --case 17         # that one alone, again

What fails: a crash, INTERNAL or UNKNOWN, a traceback in the server's log, a call without an end, a late chunk of the
two or output that is not exactly that of a render, a session or place that is not given back, memory that has grown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hostile.cases import Case, case, cases
from hostile.fuzzing import GROWTH_BAR, Report, fuzz
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backline.cli.connection import server_process
from backline.cli.paced import JITTER_BUFFER_SECONDS

WARM_UP_CALLS = 500  # until every heap has been as full as so many at once make it
WARM_UP_SEED = -1


def chosen(arguments: argparse.Namespace) -> Iterator[Case]:
    """The cases that were asked for."""
    if arguments.case:
        return (case(arguments.seed, number, arguments.pack) for number in arguments.case)
    return cases(arguments.seed, arguments.calls, arguments.pack)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000, help="how many at least (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (default: 0)")
    parser.add_argument("--case", type=int, action="append", help="only this case; may be given several times")
    parser.add_argument("--pack", default="default", help="which pack the bystanders play on (default: default)")
    parser.add_argument("--packs", type=Path, action="append", default=[], help="a further folder of packs")
    parser.add_argument("--log", type=Path, help="keep the server's log here")
    parser.add_argument(
        "--jitter-buffer",
        type=float,
        default=JITTER_BUFFER_SECONDS,
        help=f"seconds by which output may be late on a busy machine (default: {JITTER_BUFFER_SECONDS:g})",
    )
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        log = arguments.log or Path(scratch) / "server.log"
        with server_process(arguments.packs, log=log) as server:
            report = fuzz(
                server,
                log,
                arguments.pack,
                [] if arguments.case else cases(WARM_UP_SEED, WARM_UP_CALLS, arguments.pack),
                chosen(arguments),
                lambda case: f"python bench/fuzz.py --seed {case.seed} --pack {arguments.pack} --case {case.number}",
                lambda text: print(text, flush=True),
                arguments.jitter_buffer,
            )
    Console().print(table(report))
    print(f"{len(report.failures)} failures", file=sys.stderr)
    return int(bool(report.failures))


def table(report: Report) -> Table:
    table = Table(title=f"{report.calls} calls beside two sessions")
    for column in ("", "measured", "at most"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("failures", f"{len(report.failures)}", "0")
    table.add_row("memory growth", f"{report.growth:.3f}", f"{GROWTH_BAR:g}")
    table.add_row("chunks of the two", f"{report.bystander_chunks}", "")
    table.add_row(f"slowest call, seconds ({report.slowest})", f"{report.slowest_seconds:.2f}", "")
    for status, count in report.statuses.most_common():
        table.add_row(status, f"{count}", "")
    for kind, count in report.kinds.most_common():
        table.add_row(f"[red]{escape(kind)}", f"{count}", "0")
    return table


if __name__ == "__main__":
    sys.exit(main())
