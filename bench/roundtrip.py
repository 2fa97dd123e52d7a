"""Echoes blocks through the passthrough pack, alone and while another session has its model compute without a pause.

python bench/roundtrip.py --busy default --seconds 20 --json roundtrip.json

The echo is one chunk of the smallest size: sent, through gRPC, the engine and gRPC again, received. The other session
is offline, so that its engine call follows its engine call; without a pack to keep busy, one of random weights is
made that costs what the default pack does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from backline.cli.connection import server_process
from backline.models.hafm.interleaved.config import SMALL
from backline.models.hafm.interleaved.network import StageNetwork
from backline.models.hafm.load import tiny_random
from backline.packs.pack import write_pack
from backline_client import BacklineError, Client
from backline_client.wire import channel_options
from backline_protos.v1 import backline_pb2 as pb
from backline_protos.v1.backline_pb2_grpc import BacklineStub

RATE = 48_000
CHUNK_SECONDS = 0.001  # the passthrough's quantum
BLOCK = round(CHUNK_SECONDS * RATE)
PAUSE_SECONDS = 0.002  # between echoes: a client that is paced, not one that saturates the server
WARM_UP = 50  # echoes that do not count
P50_BAR = 0.002  # seconds, while another session generates


@dataclass(frozen=True)
class Result:
    """Round trips in seconds, and the chunks that other sessions got meanwhile."""

    name: str
    echoes: int
    p50: float
    p99: float
    worst: float
    other_chunks: int
    other_load: float  # compute seconds of the other sessions per second


def measure(client: Client, name: str, seconds: float) -> Result:
    """Echoes for `seconds`."""
    audio = np.random.default_rng(0).uniform(-1, 1, (2, BLOCK)).astype(np.float32)
    trips: list[float] = []
    with client.open("passthrough", RATE, 2, block_size=BLOCK, chunk_seconds=CHUNK_SECONDS, offline=True) as session:
        own = session.ready.session
        begin_others, begin = others(client, own), time.perf_counter()
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            session.send(audio)
            block = session.receive(10.0)
            trips.append(time.perf_counter() - start)
            if block is None or not np.array_equal(block.audio, audio):
                raise SystemExit("the echo is not what was sent: is this the passthrough?")
            time.sleep(PAUSE_SECONDS)
        elapsed, end_others = time.perf_counter() - begin, others(client, own)
    counted = trips[WARM_UP:] or trips
    p50, p99 = (float(value) for value in np.percentile(counted, [50, 99]))
    load = (end_others[1] - begin_others[1]) / elapsed
    return Result(name, len(counted), p50, p99, max(counted), end_others[0] - begin_others[0], load)


def others(client: Client, own: str) -> tuple[int, float]:
    """Chunks and compute seconds so far of all sessions but `own`."""
    sessions = [session for session in client.sessions() if session.id != own]
    chunk_seconds = {pack.name: pack.default_chunk_seconds for pack in client.packs()}
    compute = sum(s.realtime_factor * s.chunks * chunk_seconds[s.pack] for s in sessions)
    return sum(session.chunks for session in sessions), compute


@contextmanager
def busy(address: str, pack: str) -> Iterator[None]:
    """Keeps `pack` computing as long as the block: its input is there whenever the server takes it."""
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, 4_096).astype("<f4")
    opening = pb.Open(pack=pack, sample_rate=RATE, channels=1, block_size=noise.size, mode=pb.MODE_OFFLINE)

    def messages() -> Iterator[pb.ClientMessage]:
        yield pb.ClientMessage(open=opening)
        for index in itertools.count():
            yield pb.ClientMessage(audio=pb.AudioBlock(position=index * noise.size, pcm=noise.tobytes()))

    with grpc.insecure_channel(address, options=channel_options(address)) as channel:
        call = BacklineStub(channel).Stream(messages())
        generating = threading.Event()

        def read() -> None:
            with suppress(grpc.RpcError):  # the cancel below
                for message in call:
                    if message.WhichOneof("message") == "audio":
                        generating.set()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            if not generating.wait(60):
                raise SystemExit(f"{pack!r} gave no output within 60 s: try `backline doctor`")
            yield
        finally:
            call.cancel()
            reader.join()


def write_random_pack(folder: Path) -> None:
    """A pack of three small stages; what it plays is noise."""
    config, tensors = tiny_random()
    stages = {name: StageNetwork(sizes).state_dict() for name, sizes in SMALL.stages().items()}
    kept = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in stages}
    random = {f"{stage}.{name}": tensor for stage, state in stages.items() for name, tensor in state.items()}
    write_pack(folder, {**config, "name": folder.name, "network": SMALL.to_dict()}, {**kept, **random})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", help="the pack that computes meanwhile (default: random weights, of its size)")
    parser.add_argument("--packs", type=Path, action="append", default=[], help="a further folder of packs")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to echo each time (default: 10)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        name = arguments.busy or "busy"
        if arguments.busy is None:
            write_random_pack(Path(scratch) / name)
        with server_process([Path(scratch), *arguments.packs]) as server, Client(server.address) as client:
            try:
                client.load_pack(name)
            except BacklineError as error:
                raise SystemExit(f"{error}") from None
            results = [measure(client, "alone", arguments.seconds)]
            with busy(server.address, name):
                results.append(measure(client, f"while {name!r} generates", arguments.seconds))

    table = Table(title=f"gRPC echo of {BLOCK} samples at {RATE} Hz, milliseconds")
    for column in ("", "p50", "p99", "worst", "echoes", "other chunks", "other load"):
        table.add_column(column, justify="right" if column else "left")
    for result in results:
        times = [f"{1000 * seconds:.2f}" for seconds in (result.p50, result.p99, result.worst)]
        table.add_row(result.name, *times, str(result.echoes), str(result.other_chunks), f"{result.other_load:.2f}")
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    over = results[-1].p50 > P50_BAR
    if over:
        print(f"over the bar of {1000 * P50_BAR:g} ms", file=sys.stderr)
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
