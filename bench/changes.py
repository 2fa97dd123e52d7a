"""How long it takes from a change of a parameter or a text until it is heard, in a live session on this machine.

python bench/changes.py --pack default --seconds 60
python bench/changes.py --pack mge --text query=bass --text query=drums --seconds 60

Every CHANGE_SECONDS a parameter of the pack moves, or the next of the texts is sent, as soon as possible and at no
position. The session's event log says which chunk obeyed it first; it is heard when the host plays that chunk's first
sample. Fails where the 95th percentile is more than one chunk and MARGIN_SECONDS.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from backline.cli.connection import server_process
from backline.cli.paced import Audio, Host, play_paced
from backline.cli.phrase import sung_phrase
from backline.engine.event_log import ChunkLine, read_log
from backline_client import Client, Session

BLOCK = 256  # samples
CHANGE_SECONDS = 2.3  # not a whole number of any pack's chunks: changes come anywhere in them
MARGIN_SECONDS = 0.2
JITTER_BUFFER_SECONDS = 0.02  # this machine needs no more on loopback; see what was missing

Change = tuple[str, float | str]  # a name of the pack's, and what it is from then on


def moves(client: Client, pack: str) -> list[Change]:
    """To and fro, with the first parameter that can move while it plays."""
    for parameter in client.pack(pack).parameters:
        if parameter.automatable:
            middle = (parameter.minimum + parameter.maximum) / 2
            return [
                (parameter.name, parameter.maximum),
                (parameter.name, round(middle) if parameter.integer else middle),
            ]
    raise SystemExit(f"{pack} has no parameter that moves while it plays: give --text NAME=TEXT twice")


def seconds_until_heard(
    pack: str, packs: list[Path], seconds: float, texts: list[Change], told: Callable[[float], None]
) -> tuple[list[float], float, float]:
    """Of every change that was heard; how long a chunk is; and for how long output was missing."""
    phrase, sent = sung_phrase(), list[tuple[int, Change]]()
    lines: list[str] = []
    with server_process(packs, options=["--load", pack]) as server, Client(server.address) as client:
        changes = texts or moves(client, pack)
        with client.open(
            pack, phrase.rate, phrase.audio.shape[0], block_size=BLOCK, seed=1, want_log=True,
            jitter_buffer_seconds=JITTER_BUFFER_SECONDS,
        ) as session:  # fmt: skip
            session.transport(phrase.transport)
            chunk_seconds = session.ready.chunk_seconds
            host = Host(session, phrase.rate, phrase.audio.shape[0], log=lines.append)
            position = 0

            def turn(played: dict[str, Audio]) -> None:
                nonlocal position
                position += next(iter(played.values())).shape[1]
                told(position / phrase.rate)
                if position >= (len(sent) + 1) * CHANGE_SECONDS * phrase.rate:
                    sent.append((position, changes[len(sent) % len(changes)]))
                    tell(session, *sent[-1][1])

            audio = np.resize(phrase.audio, (phrase.audio.shape[0], round(seconds * phrase.rate)))
            blocks = (audio[:, at : at + BLOCK] for at in range(0, audio.shape[1], BLOCK))
            play_paced(host, blocks, phrase.rate, turn)
            host.finish()
        latency = host.measured.latency_samples
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "log.jsonl").write_text("\n".join(lines) + "\n")
        chunks = read_log(path).chunks
    heard = []
    for at, (name, value) in sent:
        obeyed = [each.chunk for each in chunks if each.chunk + latency >= at and in_force(each, name) == value]
        if obeyed:
            heard.append((obeyed[0] + latency - at) / phrase.rate)
    return heard, chunk_seconds, host.measured.underrun_samples / phrase.rate


def tell(session: Session, name: str, value: float | str) -> None:
    if isinstance(value, str):
        session.text(name, value)
    else:
        session.control(name, value)


def in_force(chunk: ChunkLine, name: str) -> float | str | None:
    """What this chunk has brought into force."""
    return chunk.texts.get(name, chunk.controls.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="default")
    parser.add_argument("--packs", type=Path, action="append", default=[], help="a further folder of packs")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to play (default: 60)")
    parser.add_argument("--text", metavar="NAME=TEXT", action="append", default=[], help="at least two, in turn")
    arguments = parser.parse_args()
    texts: list[Change] = []
    for text in arguments.text:
        name, told, value = text.partition("=")
        if not told:
            parser.error(f"--text {text}: write it as NAME=TEXT, as in --text query=bass")
        texts.append((name, value))
    with Progress(transient=True) as shown:
        task = shown.add_task(arguments.pack, total=arguments.seconds)
        heard, chunk_seconds, missing = seconds_until_heard(
            arguments.pack, arguments.packs, arguments.seconds, texts, lambda done: shown.update(task, completed=done)
        )
    if not heard:
        raise SystemExit("no change was heard: play longer, with --seconds")
    p50, p95 = np.percentile(heard, [50, 95])
    bar = chunk_seconds + MARGIN_SECONDS
    Console().print(
        f"{arguments.pack}: {len(heard)} changes, heard after {p50:.2f} s (median), {p95:.2f} s (95 %), "
        f"{max(heard):.2f} s (longest); a chunk is {chunk_seconds:.2f} s, at most {bar:.2f} s are wanted; "
        f"{missing:.2f} s were missing"
    )
    return int(p95 > bar)


if __name__ == "__main__":
    sys.exit(main())
