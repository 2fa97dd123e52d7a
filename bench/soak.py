"""Plays a pack live for minutes on one core, and fails where it was too slow, came late or grew.

python bench/soak.py --minutes 10 --pack default --json soak.json
python bench/soak.py --minutes 2 --pack mge --text query=bass --text query=drums       # another text every 5 s
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from backline.cli.connection import server_process
from backline.cli.paced import JITTER_BUFFER_SECONDS, Audio, Host, play_paced
from backline.cli.phrase import sung_phrase
from backline_client import Client

BLOCK = 256  # samples
TEXT_SECONDS = 5.0  # from one text to the next
REAL_TIME_FACTOR_BAR = 0.7
LATE_BAR = 0.001  # share of chunks
GROWTH_BAR = 0.05  # share of memory


@dataclass(frozen=True)
class Result:
    """One run; the memory is the server's resident set."""

    pack: str
    minutes: float
    chunks: int
    late_chunks: int
    underrun_seconds: float  # played as silence
    engine_factor: float  # engine seconds per second of audio
    real_time_factor: float  # CPU seconds of the whole server per second of audio
    latency_seconds: float  # end to end, constant
    delay_p50: float  # seconds from an input sample to the arrival of the output under it
    delay_p99: float
    memory_early: int  # bytes, after one minute or half the run
    memory_end: int

    @property
    def growth(self) -> float:
        return self.memory_end / self.memory_early - 1.0

    @property
    def late_share(self) -> float:
        return self.late_chunks / max(1, self.chunks)

    def bars(self) -> list[tuple[str, float, float]]:
        """(what, measured, at most)."""
        return [
            ("real-time factor", self.real_time_factor, REAL_TIME_FACTOR_BAR),
            ("late chunks", self.late_share, LATE_BAR),
            ("memory growth", self.growth, GROWTH_BAR),
        ]


def soak(
    pack: str, packs: list[Path], minutes: float, seed: int, task: str = "", texts: Sequence[tuple[str, str]] = ()
) -> Result:
    """The bundled phrase over and over, paced in real time, against a server on one core.

    Args:
        texts: names and texts, one of which is sent every TEXT_SECONDS, over and over.
    """
    phrase = sung_phrase()
    seconds = minutes * 60.0
    early_at = min(60.0, seconds / 2)
    early: list[int] = []
    sent: list[tuple[str, str]] = []
    with server_process(packs, cores=1) as server, Client(server.address) as client:
        client.load_pack(pack)
        with client.open(
            pack,
            phrase.rate,
            phrase.audio.shape[0],
            block_size=BLOCK,
            seed=seed,
            jitter_buffer_seconds=JITTER_BUFFER_SECONDS,
            task=task,
        ) as session:
            session.transport(phrase.transport)
            host = Host(session, phrase.rate, phrase.audio.shape[0])
            before = server.process.cpu_times()

            def watch(_: dict[str, Audio]) -> None:
                if not early and time.monotonic() - begin >= early_at:
                    early.append(server.process.memory_info().rss)
                if texts and time.monotonic() - begin >= TEXT_SECONDS * len(sent):
                    sent.append(texts[len(sent) % len(texts)])
                    session.text(*sent[-1])

            begin = time.monotonic()
            play_paced(host, repeated(phrase.audio, round(seconds * phrase.rate)), phrase.rate, watch)
            memory_end = server.process.memory_info().rss
            host.finish()
            after = server.process.cpu_times()
    measured, totals = host.measured, host.measured.totals
    return Result(
        pack=pack,
        minutes=minutes,
        chunks=totals.chunks,
        late_chunks=totals.late_chunks,
        underrun_seconds=measured.underrun_samples / phrase.rate,
        engine_factor=totals.compute_seconds / seconds,
        real_time_factor=(after.user + after.system - before.user - before.system) / seconds,
        latency_seconds=measured.latency_samples / phrase.rate,
        delay_p50=measured.delays.percentile(50),
        delay_p99=measured.delays.percentile(99),
        memory_early=early[0] if early else memory_end,
        memory_end=memory_end,
    )


def repeated(audio: Audio, samples: int) -> Iterator[Audio]:
    """`audio` [channel, sample] over and over, `samples` long, in blocks."""
    for position in range(0, samples, BLOCK):
        wanted = np.arange(position, min(position + BLOCK, samples))
        yield audio[:, wanted % audio.shape[1]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to play (default: 10)")
    parser.add_argument("--pack", default="default", help="which pack (default: default)")
    parser.add_argument("--packs", type=Path, action="append", default=[], help="a further folder of packs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--task", default="", help="which of the pack's (default: its first)")
    parser.add_argument("--text", metavar="NAME=TEXT", action="append", default=[], help="may be given often")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    if wrong := [text for text in arguments.text if "=" not in text]:
        parser.error(f"--text {wrong[0]}: use NAME=TEXT")
    texts = [(name, text) for name, _, text in (given.partition("=") for given in arguments.text)]
    result = soak(arguments.pack, arguments.packs, arguments.minutes, arguments.seed, arguments.task, texts)
    table = Table(title=f"{result.pack}, {result.minutes:g} min live, one core")
    for column in ("", "measured", "at most"):
        table.add_column(column, justify="left" if not column else "right")
    for name, value in asdict(result).items():
        if name not in {"pack", "minutes", "real_time_factor"}:  # the last is among the bars
            table.add_row(name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else f"{value:,}", "")
    failed = []
    for name, value, bar in result.bars():
        table.add_row(f"[bold]{name}", f"{value:.4g}", f"{bar:g}", style="red" if value > bar else "green")
        failed += [name] if value > bar else []
    Console().print(table)
    if arguments.json is not None:
        bars = {name: {"measured": value, "at_most": bar} for name, value, bar in result.bars()}
        arguments.json.write_text(json.dumps({**asdict(result), "bars": bars}, indent=2) + "\n")
    if failed:
        print(f"over the bar: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
