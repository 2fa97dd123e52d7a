"""How much of the band a host misses that calls the plugin in bursts, by the latency budget: the default is 3 s.

make plugin && python -m bench.bursts

The host plays in real time, but the blocks of a burst one right after the other: of one block as sound cards do, of
.1 s and more as hosts with large buffers, sound servers and virtual machines do.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.plugin.drive import DEFAULT, ROLLING, SEED, driver
from tests.plugin.server_process import server_process

RATE = 48_000
BAND = slice(4, 6)  # columns of the first stem, which is silent where the plugin has nothing to play
BUDGETS = (2.8, 3.0, 3.2)  # seconds
DEFAULT_BUDGET = 3.0
BURSTS = (512, 4_800, 9_600, 24_000)  # samples
BORNE = 9_600  # the longest burst at which nothing may be missed with the default budget: .2 s
PLUGIN = Path(__file__).parent.parent / "build" / "plugin"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=15, help="played in each case (default: 15)")
    parser.add_argument("--plugin", type=Path, default=PLUGIN, help="where `make plugin` has built")
    arguments = parser.parse_args()

    table = Table(title="share of the band that was missed, by the latency budget")
    for column in ("burst", *(f"{budget:g} s" for budget in BUDGETS)):
        table.add_column(column, justify="right")
    missed: dict[tuple[int, float], float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        address = f"unix:{scratch}/socket"
        with server_process(address, ["default"]):
            for burst in BURSTS:
                for budget in BUDGETS:
                    missed[burst, budget] = share_missed(arguments, address, Path(scratch), burst, budget)
                table.add_row(f"{burst / RATE:.3g} s", *(f"{missed[burst, budget]:.1%}" for budget in BUDGETS))
    Console().print(table)
    return int(any(missed[burst, DEFAULT_BUDGET] for burst in BURSTS if burst <= BORNE))


def share_missed(arguments: argparse.Namespace, address: str, scratch: Path, burst: int, budget: float) -> float:
    """Of the samples after the latency, those at which the plugin had nothing to play."""
    folder = scratch / f"{burst}-{budget}"
    folder.mkdir()
    with driver(arguments.plugin, folder, address) as plugin:
        plugin.say("set", SEED, 7)
        plugin.say("roll", ROLLING)
        latency = plugin.activate(RATE, burst, seconds=budget, pack=DEFAULT)
        audio = plugin.run(latency + arguments.seconds * RATE, burst, 1)
    return float((audio[latency:, BAND] == 0).all(axis=1).mean())


if __name__ == "__main__":
    sys.exit(main())
