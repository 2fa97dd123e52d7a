"""The engine's figures as Prometheus reads them (text format 0.0.4).

Whoever asks for them waits for no model, and no model for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

import psutil

from backline import __version__
from backline.engine.engine import Engine
from backline.engine.figures import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[dict[str, str], float]


def exposition(engine: Engine) -> str:
    """Every figure there is."""
    return "".join(f"{line}\n" for line in _lines(engine))


def _lines(engine: Engine) -> Iterator[str]:
    figures, stats, residents = engine.figures, engine.stats(), engine.residents
    models = dict(figures.models)

    def of_model(what: str) -> list[Sample]:
        return [({"pack": name}, getattr(model, what)) for name, model in models.items()]

    about = {"version": __version__, "device": stats.device}
    yield from _family("gauge", "info", "The server's version and device.", [(about, 1)])
    yield from _family("gauge", "uptime_seconds", "Since the start.", [({}, stats.uptime_seconds)])
    yield from _family("gauge", "load_cores", "Cores that live sessions claim.", [({}, stats.load)])
    resident_bytes = psutil.Process().memory_info().rss
    yield from _family("gauge", "process_resident_bytes", "Memory of the whole server.", [({}, resident_bytes)])
    for what, say, value in (
        ("sessions", "Sessions that are open.", lambda name: len(residents[name].open_sessions())),
        ("sessions_detached", "Of these, sessions whose call has broken off, and which wait to be taken up again.",
         lambda name: sum(session.phase == "detached" for session in residents[name].open_sessions())),
        ("pack_bytes", "Memory of a resident pack: weights, and all rows with their KV caches.",
         lambda name: residents[name].stream.resident_bytes()),
    ):  # fmt: skip
        yield from _family("gauge", what, say, [({"pack": name}, value(name)) for name in residents])
    memory = [
        ({"pack": name, "row": str(session.row)}, session.memory)
        for name in residents
        for session in residents[name].open_sessions()
    ]
    say = "Memory of an open session, by its row: its input, and what of the row the pack tells, KV caches included."
    yield from _family("gauge", "session_bytes", say, [(which, each.kv + each.other) for which, each in memory])
    say = "Of that, KV caches."
    yield from _family("gauge", "session_kv_bytes", say, [(which, each.kv) for which, each in memory])
    refused: list[Sample] = [({}, figures.sessions_refused)]
    yield from _family("counter", "sessions_refused_total", "Sessions for which there was no room.", refused)
    resumed: list[Sample] = [({}, figures.sessions_resumed)]
    yield from _family("counter", "sessions_resumed_total", "Times that a session was taken up again.", resumed)
    for what, say in (
        ("sessions", "Sessions that were opened."),
        ("chunks", "Chunks that were answered."),
        ("late_chunks", "Chunks of which some came too late to be played."),
        ("compute_seconds", "Seconds of engine calls."),
        ("audio_seconds", "Seconds of audio that the answered chunks were long."),
    ):
        name = "sessions_opened" if what == "sessions" else what
        yield from _family("counter", f"{name}_total", say, of_model(what))
    yield from _family("gauge", "chunks_in_time_ratio", "Share of the chunks that came in time.", of_model("in_time"))
    factor = "Compute seconds per second of audio, since the start."
    yield from _family("gauge", "realtime_factor", factor, of_model("realtime_factor"))
    say = "From a chunk's beginning to its answer; the buckets are shares of its usual length."
    whole = [({"pack": name}, model.chunk_seconds) for name, model in models.items()]
    yield from _histograms("chunk_seconds", say, whole)
    say = "Of a chunk: it waits (queue), the model computes, the session brings sound there and back; the same buckets."
    yield from _histograms(
        "stage_seconds",
        say,
        [
            ({"pack": name, "stage": stage}, histogram)
            for name, model in models.items()
            for stage, histogram in model.stage_seconds.items()
        ],
    )
    errors = [({"door": door, "kind": kind}, count) for (door, kind), count in list(figures.errors.items())]
    yield from _family("counter", "errors_total", "What went wrong at a door of the server.", errors)


def _family(kind: str, name: str, say: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP backline_{name} {say}"
    yield f"# TYPE backline_{name} {kind}"
    for labels, value in samples:
        yield f"backline_{name}{_labels(labels)} {float(value)!r}"


def _histograms(name: str, say: str, found: Iterable[tuple[dict[str, str], Histogram]]) -> Iterator[str]:
    yield f"# HELP backline_{name} {say}"
    yield f"# TYPE backline_{name} histogram"
    for labels, histogram in found:
        counts = list(accumulate(histogram.counts))  # read once: the engine thread goes on
        for bound, count in zip((*map(repr, histogram.bounds), "+Inf"), counts, strict=True):
            yield f"backline_{name}_bucket{_labels({**labels, 'le': bound})} {count}"
        yield f"backline_{name}_sum{_labels(labels)} {histogram.sum!r}"
        yield f"backline_{name}_count{_labels(labels)} {counts[-1]}"


def _labels(labels: dict[str, str]) -> str:
    escaped = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n"}
    inside = ",".join(f'{name}="{value.translate(escaped)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""
