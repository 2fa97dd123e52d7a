"""Plays live over a network that is far, restless and broken, and through servers and clients that stop or are killed.

python -m bench.bad_network --seconds 120                        # 100 ms there and back, jitter, down 2 % of the time
python -m bench.bad_network --story stop-server --outage 20      # SIGSTOP; also stop-client, kill-server, kill-client
python -m bench.bad_network --pack default --seconds 120
python -m bench.bad_network --in-plugin --seconds 600             # the same in the plugin's core, after `make plugin`
python -m bench.bad_network --story soak --pack default --seconds 1800   # two sessions, one of them cut every minute

With passthrough every sample that is heard is held against what was sent: in time, lost, or wrong (doubled, or at the
wrong place), and left against right. With other packs only what was missing is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from backline.cli.connection import ServerProcess, server_process
from backline.cli.paced import FADE_SECONDS, INPUT, Audio, Host, play_paced
from backline.cli.phrase import sung_phrase
from backline_client import Client, Link, SessionOptions
from tests.plugin import native
from tests.plugin.drive import AUTO, PASSTHROUGH, PLAYING, ROLLING, TIMING, driver
from tests.support.network import Network, Weather

RATE, BLOCK = 48_000, 256
LOOPBACK_BAR, NETWORK_BAR = 0.995, 0.95  # share of the samples that must be in time
LATE_BAR, GROWTH_BAR = 0.001, 0.05  # of a soak: share of chunks, and of the server's memory after its first minute
EVERY, CUT = 60.0, 0.5  # seconds between its cuts, and of each
BACK_BAR = 2.0  # seconds from the end of an outage until all is in time again
LEASE = 30.0
ROOT = Path(__file__).parent.parent


@dataclass
class Heard:
    """What became of a performance, in samples."""

    samples: int = 0
    missing: int = 0  # silence, or part of a fade, where the band was due
    wrong: int = 0  # something else than belongs there
    skewed: int = 0  # left and right are not of one moment
    connections: int = 0  # lost
    resumed: int = 0  # times that the same session went on
    opened: int = 0  # times that another one was opened
    dropped: int = 0  # input samples that were never sent
    memory_growth_mib: float = 0.0  # of the client
    bad_at: list[float] = field(default_factory=list)  # monotonic seconds of blocks in which something was missing
    held_up: list[tuple[float, float]] = field(default_factory=list)  # (since, until) in which this process stood still

    @property
    def in_time(self) -> float:
        return 1.0 - (self.missing + self.wrong) / max(1, self.samples)

    def back_after(self, ended: float) -> float:
        """Seconds from the end of an outage until the last block in which something was missing."""
        return max([0.0, *(at - ended for at in self.bad_at)])


def sung(samples: int) -> Audio:
    """A second of noise, which is nowhere the same, over and over; right is left upside down."""
    left = np.random.default_rng(1).uniform(0.1, 0.9, RATE + 7).astype(np.float32)
    left = np.resize(left, samples)
    return np.stack([left, -left])


def play(address: str, pack: str, seconds: float, jitter_buffer: float, progress: Callable[[float], None]) -> Heard:
    """One session, paced, over the network at `address`."""
    heard, own = Heard(), psutil.Process()
    phrase = sung_phrase() if pack != "passthrough" else None
    audio = sung(round(seconds * RATE)) if phrase is None else np.resize(phrase.audio, (2, round(seconds * RATE)))
    options = SessionOptions(jitter_buffer_seconds=jitter_buffer, seed=1)
    if phrase is None:
        options["chunk_seconds"] = 0.1
    with (
        Client(address) as client,
        client.open(pack, RATE, 2, block_size=BLOCK, reconnect_seconds=120, **options) as session,
    ):

        def link(link: Link) -> None:
            heard.connections += not link.up
            heard.resumed += link.up and link.resumed
            heard.opened += link.up and not link.resumed

        host = Host(session, RATE, 2, on_link=link)
        latency, position, before = host.measured.latency_samples, 0, 0
        last, memory = time.monotonic(), own.memory_info().rss

        def hear(blocks: dict[str, Audio]) -> None:
            nonlocal position, before, last
            now = time.monotonic()
            if now - last > 1.0:
                heard.held_up.append((last, now))
            last = now
            ours = next(block for name, block in blocks.items() if name != INPUT)
            first = max(0, position - latency)
            due = audio[:, first : max(0, position + ours.shape[1] - latency)]
            position += ours.shape[1]
            heard.samples += due.shape[1]
            if phrase is None:
                came = ours[:, ours.shape[1] - due.shape[1] :]
                same = (came == due).all(axis=0)
                smaller = np.abs(came).max(axis=0, initial=0.0) < 0.1  # than anything that is sung
                fades = _near(smaller, round(FADE_SECONDS * RATE) + 1)
                heard.missing += int(np.count_nonzero(~same & fades))
                heard.wrong += int(np.count_nonzero(~same & ~fades))
                heard.skewed += int(np.count_nonzero(came[0] != -came[1]))
                bad = not same.all()
            else:
                heard.missing += host.measured.underrun_samples - before
                bad, before = host.measured.underrun_samples > before, host.measured.underrun_samples
            if bad:
                heard.bad_at.append(now)
            progress(position / RATE)

        play_paced(host, (audio[:, at : at + BLOCK] for at in range(0, audio.shape[1], BLOCK)), RATE, hear)
        heard.memory_growth_mib = (own.memory_info().rss - memory) / 2**20
        heard.dropped = session.dropped_samples
        session.cancel()
    return heard


def play_in_plugin(address: str, seconds: float, budget: float, progress: Callable[[float], None]) -> Heard:
    """As `play` with passthrough, in the plugin's core with this latency budget and Timing auto.

    What is heard is its first stem, which carries nothing where the main output is dry: the input times a gain from 0
    (missing) to 1, the same left and right; but for the last sample, which is held and fades where nothing follows it.
    """
    heard, plugins = Heard(), native.build(ROOT / "build" / "plugin", "", "drive")
    with tempfile.TemporaryDirectory() as folder, driver(plugins, Path(folder), address) as drive:
        drive.say("set", TIMING, AUTO)
        drive.say("roll", ROLLING)
        latency = drive.activate(RATE, BLOCK, seconds=budget, pack=PASSTHROUGH)
        if int(drive.say("await", PLAYING, 30, BLOCK)) < 0:
            raise SystemExit(f"the plugin does not play: {drive.message()}")
        audio = drive.run(latency + RATE, BLOCK, 1)[-latency:]
        fade, fades, before = round(FADE_SECONDS * RATE), list[int](), False  # where they begin in what comes next
        while heard.samples < seconds * RATE:
            audio = np.concatenate([audio[-latency:], drive.run(RATE, BLOCK, 1)])
            due, main, stem = audio[:-latency, :2], audio[latency:, 2:4], audio[latency:, 4:6]
            with np.errstate(divide="ignore", invalid="ignore"):
                gains = np.where(due == 0.0, 1.0, stem / due)
            heard.samples += len(due)
            missing = (gains != 1.0).any(axis=1)
            wanted = np.ones_like(missing)
            begin = missing & ~np.concatenate([[before], missing[:-1]])
            fades = [*(at for at in fades if at + fade > 0), *np.flatnonzero(begin)]
            for at in fades:
                wanted[max(0, at) : max(0, at + fade)] = False
            fades, before = [at - len(due) for at in fades], bool(missing[-1])
            skewed = wanted & (np.abs(gains[:, 0] - gains[:, 1]) > 1e-3)
            misplaced = ~missing & (np.abs(main - due).max(axis=1) > 1e-6)
            wrong = misplaced | wanted & ((gains < -1e-3) | (gains > 1.0 + 1e-3)).any(axis=1)
            heard.skewed += int(np.count_nonzero(skewed))
            heard.wrong += int(np.count_nonzero(wrong))
            heard.missing += int(np.count_nonzero(missing & ~wrong))
            if missing.any():
                heard.bad_at.append(time.monotonic())
            progress(heard.samples / RATE)
        heard.opened = drive.sessions() - 1
    return heard


def _near(where: NDArray[np.bool_], samples: int) -> NDArray[np.bool_]:
    """True within so many samples of a true one, or of the block's edges: a fade may come from the block before."""
    if where.size <= 2 * samples:
        return np.ones_like(where)
    counts = np.convolve(np.pad(where, samples, constant_values=True), np.ones(2 * samples + 1), "valid")
    near: NDArray[np.bool_] = counts > 0
    return near


class Cuts(threading.Thread):
    """Breaks a network off now and then, and weighs the server: before the first cut, and when it is stopped."""

    def __init__(self, network: Network, server: ServerProcess) -> None:
        super().__init__(name="cuts", daemon=True)
        self._network, self._server, self._over = network, server, threading.Event()
        self._early = 0

    def run(self) -> None:
        while not self._over.wait(EVERY):
            self._early = self._early or self._weight()
            self._network.cut()
            time.sleep(CUT)
            self._network.mend()

    def stop(self) -> float:
        """How much memory the server has taken since the first cut, as a share of what it had."""
        self._over.set()
        self.join()
        return self._weight() / self._early - 1.0 if self._early else 0.0

    def _weight(self) -> int:
        return int(self._server.process.memory_info().rss)


# ---- stories -------------------------------------------------------------------------------------------


def later(seconds: float, happens: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, happens)
    timer.daemon = True
    timer.start()


def outage(server: ServerProcess, seconds: float, ended: list[float]) -> None:
    """SIGSTOP, and SIGCONT later."""
    server.process.suspend()
    time.sleep(seconds)
    server.process.resume()
    ended.append(time.monotonic())


def child(address: str, arguments: argparse.Namespace, seconds: float) -> subprocess.Popen[str]:
    """A client in a process of its own, which tells what it heard."""
    command = [sys.executable, "-m", "bench.bad_network", "--story", "play", "--address", address]
    command += ["--seconds", str(seconds), "--pack", arguments.pack, "--jitter-buffer", str(arguments.jitter_buffer)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def free_after(address: str) -> float:
    """Seconds until the server has no session any more."""
    begin = time.monotonic()
    with Client(address) as client:
        while client.sessions():
            time.sleep(0.05)
    return time.monotonic() - begin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stories = ("network", "stop-server", "stop-client", "kill-server", "kill-client", "soak", "play")
    parser.add_argument("--story", choices=stories, default="network")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to play (default: 60)")
    parser.add_argument("--outage", type=float, default=5.0, help="seconds for which something is stopped (default: 5)")
    parser.add_argument("--pack", default="passthrough")
    parser.add_argument("--packs", type=Path, action="append", default=[], help="a further folder of packs")
    parser.add_argument("--jitter-buffer", type=float, default=1.0, help="seconds held back (default: 1)")
    parser.add_argument("--rtt", type=float, default=0.1, help="seconds there and back (default: 0.1)")
    parser.add_argument("--jitter", type=float, default=0.01, help="mean seconds one way, Pareto (default: 0.01)")
    parser.add_argument("--down", type=float, default=0.02, help="share of the time (default: 0.02)")
    parser.add_argument("--longest-cut", type=float, default=5.0, help="seconds (default: 5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lease", type=float, default=LEASE, help="of the server (default: 30)")
    parser.add_argument("--in-plugin", action="store_true", help="the story `network` in the plugin, with passthrough")
    parser.add_argument("--address", help="of a server, for the story `play`")
    arguments = parser.parse_args()

    seconds, story = arguments.seconds, arguments.story
    if arguments.in_plugin and (story, arguments.pack) != ("network", "passthrough"):
        parser.error("--in-plugin plays the story `network` with passthrough")
    if story == "play":
        heard = play(arguments.address, arguments.pack, seconds, arguments.jitter_buffer, lambda _: None)
        print(json.dumps(asdict(heard)))
        return 0
    weather = Weather(arguments.rtt, arguments.jitter, arguments.down, arguments.longest_cut, arguments.seed)
    ended: list[float] = []
    figures: dict[str, float] = {}
    options = ["--lease", str(arguments.lease), "--load", arguments.pack]
    with server_process(arguments.packs, options=options) as server, Progress(transient=True) as shown:
        task = shown.add_task(story, total=seconds)

        def told(done: float) -> None:
            shown.update(task, completed=done)

        heard = Heard()
        if story == "network":
            with Network(server.address, weather) as network:
                if arguments.in_plugin:
                    heard = play_in_plugin(network.address, seconds, arguments.jitter_buffer, told)
                else:
                    heard = play(network.address, arguments.pack, seconds, arguments.jitter_buffer, told)
                figures["cuts"] = network.broken_off
        elif story == "soak":
            other = child(server.address, arguments, seconds)
            with Network(server.address, Weather()) as network, Client(server.address) as watcher:
                cuts = Cuts(network, server)
                cuts.start()
                heard = play(network.address, arguments.pack, seconds, arguments.jitter_buffer, told)
                figures = {"server memory growth": cuts.stop(), "cuts": network.broken_off}
                said, _ = other.communicate()
                beside = Heard(**json.loads(said))
                stats = watcher.stats()
            figures |= {"chunks": stats.chunks, "late chunks": stats.late_chunks, "in time beside it": beside.in_time}
        elif story == "stop-server":
            later(5.0, lambda: outage(server, arguments.outage, ended))
            heard = play(server.address, arguments.pack, seconds, arguments.jitter_buffer, told)
        elif story == "kill-server":
            with Network(server.address, Weather()) as network:

                def another() -> None:
                    server.process.kill()
                    with server_process(arguments.packs, options=options) as second:
                        network.target = second.address
                        ended.append(time.monotonic())
                        over.wait()

                over = threading.Event()
                killing = threading.Timer(5.0, another)
                killing.start()
                heard = play(network.address, arguments.pack, seconds, arguments.jitter_buffer, told)
                over.set()
                killing.join()
        else:
            client = child(server.address, arguments, seconds)
            time.sleep(8.0)
            if story == "kill-client":
                client.kill()
                figures["its place was free after"] = free_after(server.address)
            else:
                os.kill(client.pid, signal.SIGSTOP)
                time.sleep(arguments.outage)
                os.kill(client.pid, signal.SIGCONT)
                said, _ = client.communicate()
                heard = Heard(**json.loads(said))
                ended = [until for _, until in heard.held_up]
    report = {name: value for name, value in asdict(heard).items() if name not in ("bad_at", "held_up")}
    report |= {"in time": heard.in_time, **figures}
    failed = heard.wrong or heard.skewed
    if ended:
        report["all in time again after"] = heard.back_after(ended[-1])
        failed = failed or report["all in time again after"] > BACK_BAR + arguments.jitter_buffer
    elif story == "soak":
        late = figures["late chunks"] / max(1, figures["chunks"])
        failed = failed or beside.wrong or late > LATE_BAR or figures["server memory growth"] > GROWTH_BAR
        failed = failed or heard.opened or heard.resumed < figures["cuts"]
    elif story == "network":
        failed = failed or heard.in_time < (NETWORK_BAR if arguments.rtt or arguments.down else LOOPBACK_BAR)
    elif story == "kill-client":
        failed = not arguments.lease - 1.0 <= figures["its place was free after"] <= arguments.lease + 2.0
    Console().print(f"[bold]{story}[/], {arguments.pack}:")
    for name, value in report.items():
        Console().print(f"  {name.replace('_', ' '):<28} {value:,.4g}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
