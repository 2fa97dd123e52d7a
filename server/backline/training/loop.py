"""The training loop that every trainer shares: budget, resumable checkpoints, validation, progress, log.

A trainer gives a step function, which does one optimiser step and returns its losses, and names whatever has state.
The loop writes into one folder: `checkpoint.pt` (everything to carry on from), `best.pt` (the same at the best
validation) and `log.jsonl` (one object per line: training losses and validation results).
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from backline.training.memory import keep_freed_memory
from backline.training.team import ALONE, Team

Losses = Mapping[str, float]


class Stateful(Protocol):
    """A module, an optimiser, a data feed: whatever a checkpoint must bring back."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


@dataclass(frozen=True)
class LoopConfig:
    """How long to train, until the first of the two is used up, and where to keep it."""

    out: Path
    minutes: float = math.inf  # in all, over every resumed run: raise it to train on
    steps: float = math.inf  # likewise
    seed: int = 0
    checkpoint_seconds: float = 120.0
    validate_seconds: float = 180.0
    log_seconds: float = 10.0

    def __post_init__(self) -> None:
        if math.isinf(self.minutes) and math.isinf(self.steps):
            raise ValueError("training would never end: give it minutes or steps")

    def used(self, moment: Moment) -> float:
        """The share of the budget, 1 where there is none left."""
        of_time = moment.seconds / (self.minutes * 60) if self.minutes else 1.0
        of_steps = moment.step / self.steps if self.steps else 1.0
        return min(1.0, max(of_time, of_steps))


@dataclass
class Moment:
    """Where training stands, as the step function sees it."""

    step: int = 0  # optimiser steps done
    seconds: float = 0.0  # spent training, validation left out
    progress: float = 0.0  # 0 to 1 of the budget


@dataclass
class Outcome:
    """How a run of the loop ended."""

    step: int
    seconds: float
    interrupted: bool  # by SIGINT or SIGTERM; everything is saved
    best: float  # lowest value of the watched validation result; infinite without one
    validation: dict[str, float]  # the last


def pick_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:1".

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} is not available: torch finds no GPU; use --device cpu")
    return torch.device(name)


def train(
    config: LoopConfig,
    step: Callable[[Moment], Losses],
    state: Mapping[str, Stateful],
    validate: Callable[[], Losses] | None = None,
    watch: str | Callable[[Losses], float] = "",
    validate_first: bool = False,
    team: Team = ALONE,
) -> Outcome:
    """Calls `step` until the budget is used up, from where `config.out` left off.

    Args:
        config: budget and folder.
        step: one optimiser step. Values it returns are averaged over the log interval.
        state: what is saved and restored, by name; what is random in them and in `step` draws from Python's or torch's
            global generator, which are seeded, saved and restored.
        validate: called now and then and at the end, in the loop's thread.
        watch: the validation result whose lowest value marks `best.pt`, or what is to be lowest of them, infinite where
            they are no candidate; empty: none is kept.
        validate_first: before the first step as well, where training starts from something that is worth knowing.
        team: the processes that train together. All take the same steps; the first one alone validates and writes.

    Raises:
        ValueError: the checkpoint there was written with another seed or other state.
    """
    keep_freed_memory()
    config.out.mkdir(parents=True, exist_ok=True)
    checkpoint = config.out / "checkpoint.pt"
    moment, best = Moment(), math.inf
    random.seed(config.seed)
    torch.manual_seed(config.seed)
    if checkpoint.exists():
        moment, best = restore(checkpoint, config, state)
    validation: dict[str, float] = {}

    def validated() -> None:
        nonlocal best, validation
        if validate is None or not team.leads:
            return
        validation = dict(validate())
        log.write(moment, validation, "validation")
        found = watch(validation) if callable(watch) else validation[watch] if watch else math.inf
        if found < best:
            best = found
            save(config.out / "best.pt", config, state, moment, best)

    def saved() -> None:
        if team.leads:
            save(checkpoint, config, state, moment, best)

    with stop_requested() as stopping, Log(config, moment, team.leads) as log:
        if validate_first and moment.step == 0:
            validated()
        now = time.monotonic()
        next_save, next_validation = now + config.checkpoint_seconds, now + config.validate_seconds
        interrupted = False
        while not team.any(config.used(moment) >= 1) and not (interrupted := team.any(stopping())):
            moment.progress = config.used(moment)
            started = time.monotonic()
            losses = step(moment)
            moment.step += 1
            now = time.monotonic()
            moment.seconds += now - started
            bad = [name for name, value in losses.items() if not math.isfinite(value)]
            if bad:
                raise FloatingPointError(
                    f"step {moment.step}: {', '.join(bad)} not finite: lower the learning rate; "
                    f"the last good state is {checkpoint}"
                )
            log.add(moment, losses)
            if now >= next_validation:
                validated()
                next_validation = time.monotonic() + config.validate_seconds
            if now >= next_save:
                saved()
                next_save = time.monotonic() + config.checkpoint_seconds
        if not interrupted:
            validated()
        saved()
    return Outcome(moment.step, moment.seconds, interrupted, best, validation)


def save(path: Path, config: LoopConfig, state: Mapping[str, Stateful], moment: Moment, best: float) -> None:
    """Writes a checkpoint, whole or not at all."""
    content = {
        "seed": config.seed,
        "step": moment.step,
        "seconds": moment.seconds,
        "best": best,
        "state": {name: part.state_dict() for name, part in state.items()},
        "random": {
            "python": random.getstate(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
    }
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def restore(path: Path, config: LoopConfig, state: Mapping[str, Stateful]) -> tuple[Moment, float]:
    """Loads a checkpoint that `save` wrote; only ever one's own, since it may hold pickled Python objects."""
    content = torch.load(path, map_location="cpu", weights_only=False)
    if content["seed"] != config.seed:
        raise ValueError(f"{path} was trained with seed {content['seed']}, not {config.seed}: use another folder")
    if content["state"].keys() != state.keys():
        raise ValueError(f"{path} holds {sorted(content['state'])}, not {sorted(state)}: use another folder")
    for name, part in state.items():
        try:
            part.load_state_dict(content["state"][name])
        except (RuntimeError, ValueError, KeyError) as error:  # torch's, of shapes and parameter groups
            raise ValueError(
                f"{path} holds another {name}: use the options that it was trained with, or another folder"
            ) from error
    random.setstate(content["random"]["python"])
    torch.set_rng_state(content["random"]["torch"])
    if torch.cuda.is_available() and content["random"]["cuda"]:
        torch.cuda.set_rng_state_all(content["random"]["cuda"])
    return Moment(content["step"], content["seconds"]), content["best"]


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Within, SIGINT and SIGTERM only make the yielded function return true (in the main thread; elsewhere never)."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(signum: int, frame: FrameType | None) -> None:
        asked.set()

    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """What was logged in a part's folder, from the first run on; nothing where none was."""
    log = folder / "log.jsonl"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


class Log:
    """Averages losses, writes them to `log.jsonl`, and shows a bar on a terminal or plain lines elsewhere."""

    def __init__(self, config: LoopConfig, moment: Moment, shown: bool = True) -> None:
        """`shown`: whether anything is written, and seen."""
        self.config, self.shown = config, shown
        self.file = (config.out / "log.jsonl" if shown else Path(os.devnull)).open("a", encoding="utf-8")
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        self.next = time.monotonic() + config.log_seconds
        self.bar: Progress | None = None
        if shown and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, transient=True)
            self.task = self.bar.add_task(config.out.name, total=1.0)
            self.bar.update(self.task, completed=config.used(moment))

    def __enter__(self) -> Log:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar:
            self.bar.stop()
        self.file.close()

    def add(self, moment: Moment, losses: Losses) -> None:
        """Takes one step's losses."""
        for name, value in losses.items():
            self.sums[name] += value
            self.counts[name] += 1
        if time.monotonic() >= self.next:
            self.write(moment, {name: total / self.counts[name] for name, total in self.sums.items()}, "train")
            self.sums.clear()
            self.counts.clear()
            self.next = time.monotonic() + self.config.log_seconds

    def write(self, moment: Moment, values: Losses, kind: str) -> None:
        """One line into the file and onto the screen."""
        entry = {"kind": kind, "step": moment.step, "seconds": round(moment.seconds, 1), **values}
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()
        text = " ".join(f"{name} {value:.4g}" for name, value in values.items())
        of_steps = "" if math.isinf(self.config.steps) else f" of {self.config.steps:g}"
        of_minutes = "" if math.isinf(self.config.minutes) else f" of {self.config.minutes:g}"
        line = f"{kind} step {moment.step}{of_steps} ({moment.seconds / 60:.1f}{of_minutes} min): {text}"
        if self.bar:
            if kind == "validation":
                self.bar.console.print(line)
            self.bar.update(self.task, completed=self.config.used(moment), description=f"{self.config.out.name} {text}")
        elif self.shown:
            print(line, file=sys.stderr, flush=True)
