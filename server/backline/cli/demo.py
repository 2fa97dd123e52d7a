"""`backline demo`: the bundled sung phrase, streamed in real time; leaves audio, a picture and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backline.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from backline.cli.paced import Audio, Measured
    from backline.cli.phrase import Phrase
    from backline_protos.v1 import backline_pb2 as pb


def demo(
    folder: Annotated[Path, typer.Option(help="Where to leave the results.")] = Path("demo"),
    pack: options.PackName = "default",
    packs: options.PackFolders = None,
    seed: options.Seed = 1,
    block: Annotated[int, typer.Option(help="Samples per block.", min=16, max=4096)] = 256,
) -> None:
    """Hear it: a sung phrase goes live through a server on one core, and the band comes back.

    Example: [cyan]backline demo --folder demo[/]
    """
    from backline.cli.audio_files import mix, with_channels
    from backline.cli.connection import server_process
    from backline.cli.console import console, error_console
    from backline.cli.paced import INPUT, JITTER_BUFFER_SECONDS, Host, Recording, in_blocks, play_paced
    from backline.cli.phrase import sung_phrase
    from backline.cli.take_file import write_audio
    from backline.whole_file import check_folder, check_target
    from backline_client import Client

    phrase = sung_phrase()
    wanted = options.session_options(chunk=None, visibility=None, seed=seed, parameters={})
    wanted["jitter_buffer_seconds"] = JITTER_BUFFER_SECONDS
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("vocal.wav", "accompaniment.wav", "mix.wav", "demo.png"):
        check_target(folder / name)
    with error_console.status(f"loading {pack}"), server_process(packs or [], cores=1) as server:
        client = Client(server.address)
        client.load_pack(pack)
        with client.open(pack, phrase.rate, phrase.audio.shape[0], block_size=block, **wanted) as session:
            error_console.print(f"streaming {phrase.seconds:.0f} s in real time")
            ledger = session.ready.ledger  # what `host` plays at, whatever is measured on the way
            session.transport(phrase.transport)
            host, recording = Host(session, phrase.rate, phrase.audio.shape[0]), Recording()
            play_paced(host, in_blocks(phrase.audio, block), phrase.rate, recording.hear)
            recording.hear(host.finish())
            measured = host.measured
        stats = client.stats()
        client.close()

    heard = recording.aligned(measured.latency_samples)
    vocal = heard.pop(INPUT)
    accompaniment = mix(heard, 2)
    both = with_channels(vocal, 2) + accompaniment
    audio = {"vocal": vocal, "accompaniment": accompaniment, "mix": both / max(1.0, float(abs(both).max()))}
    for name, samples in audio.items():
        write_audio(folder / f"{name}.wav", samples, phrase.rate)
    draw(folder / "demo.png", audio, phrase.rate, measured)
    title = f"{pack}: {phrase.seconds:.1f} s at {phrase.rate} Hz, server on one core"
    console.print(figures(title, phrase, accompaniment, measured, stats, ledger))
    console.print(f"listen to {folder}/mix.wav, look at {folder}/demo.png")


def figures(
    title: str, phrase: Phrase, accompaniment: Audio, measured: Measured, stats: pb.Stats, ledger: pb.Ledger
) -> Table:
    """What the run measured, as a table."""
    from rich.table import Table

    totals = measured.totals
    table = Table(title=title, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    latency = measured.latency_samples / phrase.rate
    rows = [
        ("real-time factor", f"{totals.compute_seconds / phrase.seconds:.2f}", "engine seconds per second of audio"),
        ("chunk computed in", _span(stats.chunk_seconds_p50, stats.chunk_seconds_p99), "p50 / p99"),
        (
            "chunk latency",
            _span(measured.delays.percentile(50), measured.delays.percentile(99)),
            f"p50 / p99 of {measured.delays.of('blocks')}, from an input sample to the arrival of the output under it",
        ),
        ("end-to-end latency", _ms(latency), "constant: output p is played with input p + this"),
        *((f"  {item.name}", _ms(item.seconds), item.explanation) for item in ledger.items),
        ("late chunks", f"{totals.late_chunks} of {totals.chunks}", "dropped, never played late"),
        ("missing output", _ms(measured.underrun_samples / phrase.rate), "played as silence"),
        ("level", f"{_decibels(float((accompaniment**2).mean() ** 0.5)):.1f} dBFS", "of the accompaniment, RMS"),
        ("peak", f"{_decibels(float(abs(accompaniment).max())):.1f} dBFS", ""),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def draw(path: Path, audio: dict[str, Audio], rate: int, measured: Measured) -> None:
    """A PNG: the spectrogram of each signal, and below them the latency of every chunk against what is promised."""
    import matplotlib
    import numpy as np

    from backline.whole_file import whole_file

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    length = next(iter(audio.values())).shape[1]
    dither = np.random.default_rng(0).normal(0.0, 1e-8, length)
    figure, axes = plt.subplots(len(audio) + 1, 1, figsize=(12, 11), sharex=True, layout="constrained")
    for axis, (name, samples) in zip(axes, audio.items(), strict=False):
        # Noise far below hearing keeps digital silence from being the logarithm of zero.
        axis.specgram(
            samples.mean(axis=0) + dither, NFFT=2048, Fs=rate, noverlap=1536, vmin=-140, vmax=-30, cmap="magma"
        )
        axis.set(yscale="symlog", ylim=(50, min(16_000, rate / 2)), ylabel="Hz", title=name)
        axis.set_yticks([100, 1_000, 10_000], ["100", "1k", "10k"])
    axis = axes[-1]
    points = measured.delays.points()
    axis.plot([p / rate for p, _ in points], [delay * 1e3 for _, delay in points], ".-", label="arrived")
    axis.axhline(measured.latency_samples / rate * 1e3, color="C3", label="end-to-end latency: must have arrived")
    axis.set(xlabel="position of the output, seconds", ylabel="ms after its input", title="chunk latency")
    axis.set_xlim(0, length / rate)
    axis.set_ylim(0, None)
    axis.legend(loc="lower right")
    with whole_file(path) as fresh:
        figure.savefig(fresh, dpi=100)
    plt.close(figure)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def _span(p50: float, p99: float) -> str:
    return f"{p50 * 1e3:.1f} / {p99 * 1e3:.1f} ms"


def _decibels(amplitude: float) -> float:
    from math import log10

    return 20.0 * log10(max(amplitude, 1e-9))
