"""`backline live`: sing into a microphone, or play a file, and hear the band."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backline.cli import options

if TYPE_CHECKING:
    from backline.cli.paced import Audio, Host

MIX = ""  # name of the mix beside those of the outputs, none of which may have it
WITHOUT_CARD = "or do without a sound card: backline live --input FILE --output FILE"


def live(
    source: Annotated[
        Path | None, typer.Option("--input", help="Stream this file, paced in real time, not the microphone.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Record what is heard, moved back under the input; into a folder (ending in /), a file for each "
            "output. With --input too, no sound card is used."
        ),
    ] = None,
    ports: Annotated[
        list[str] | None,
        typer.Option("--port", help="Hear only this output of the pack; may be given several times."),
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="Show the audio devices and stop.")] = False,
    input_device: Annotated[str | None, typer.Option(help="Number or part of the name of the microphone.")] = None,
    output_device: Annotated[str | None, typer.Option(help="Number or part of the name of the speakers.")] = None,
    block: Annotated[int, typer.Option(help="Samples per block.", min=16, max=8192)] = 256,
    rate: Annotated[int, typer.Option(help="Sample rate of the microphone in Hz.")] = 48_000,
    dry: Annotated[
        float, typer.Option(help="Gain of the input in what is heard, delayed as the band is.", callback=options.finite)
    ] = 0.0,
    jitter_buffer: Annotated[
        float,
        typer.Option(help="Seconds held back against a restless network.", min=0, max=60, callback=options.finite),
    ] = 0.0,
    pack: options.PackName = "default",
    server: options.Server = None,
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    seed: options.Seed = None,
    chunk: options.Chunk = None,
    visibility: options.Visibility = None,
    guidance: options.Guidance = None,
    temperature: options.Temperature = None,
    settings: options.Settings = None,
    tempo: options.Tempo = None,
    signature: options.Signature = "4/4",
    downbeat: options.Downbeat = 0.0,
    layout: options.Layout = options.ChannelLayout.AUTO,
) -> None:
    """Play along live. Stop with Ctrl+C; what was recorded is kept, whatever happens.

    Example: [cyan]backline live --tempo 96 --visibility -1[/]

    Without a sound card: [cyan]backline live --input voice.wav --output band.wav[/]

    One stem of a song: [cyan]backline live --input song.wav --pack stems --port vocals[/]
    """
    if list_devices:
        typer.echo(str(sounddevice_package(WITHOUT_CARD).query_devices()))
        return
    parameters = options.parse_settings(settings, guidance=guidance, temperature=temperature)
    transport = options.parse_transport(tempo, signature, downbeat)
    wanted = options.session_options(chunk, visibility, seed, parameters, layout)
    wanted["jitter_buffer_seconds"] = jitter_buffer

    import numpy as np

    from backline.cli.audio_files import change_rate, read_audio, served_rate
    from backline.cli.connection import connected
    from backline.cli.console import console
    from backline.cli.paced import Host, in_blocks, play_paced
    from backline.cli.takes import LiveTake, PortFiles, ended_in_order

    audio: Audio | None = None
    if source is not None:
        audio, file_rate = read_audio(source)
        rate = served_rate(file_rate)
        audio = change_rate(audio, file_rate, rate)
    files = None if output is None else PortFiles.at(output)
    sounddevice = None if audio is not None and files is not None else sounddevice_package(WITHOUT_CARD)
    channels = 1 if audio is None else audio.shape[0]
    with (
        ended_in_order(),
        connected(server, packs or [], device) as client,
        client.open(pack, rate, channels, block_size=block, **wanted) as session,
        ExitStack() as stack,
    ):
        heard_ports = chosen_ports(pack, [port.name for port in session.ready.ports], ports)
        latency = session.latency_samples
        console.print(f"{pack} at {rate} Hz, end-to-end latency {latency / rate * 1000:.0f} ms; stop with Ctrl+C")
        for beat in transport:
            session.transport(beat)
        paths = {} if files is None else files.paths(heard_ports if files.is_folder else [MIX], source)
        widths = {port.name: port.channels for port in session.ready.ports} | {MIX: 2}

        def recorded(blocks: dict[str, Audio]) -> dict[str, Audio]:
            """What is heard as it goes into files: the outputs, or their mix."""
            return {name: mix_heard(blocks, heard_ports, dry) if name == MIX else blocks[name] for name in paths}

        host, frames = Host(session, rate, channels), None if audio is None else audio.shape[1]
        take = stack.enter_context(LiveTake(paths, widths, rate, latency, frames, recorded))
        try:
            if sounddevice is not None:
                # Silence after a file, so that its last samples are heard before the card stops.
                played = None if audio is None else np.pad(audio, ((0, 0), (0, latency)))

                def hear(blocks: dict[str, Audio]) -> Audio:
                    take.hear(blocks)
                    return mix_heard(blocks, heard_ports, dry)

                play_on_card(sounddevice, (input_device, output_device), host, played, rate, block, hear)
            elif audio is not None:
                play_paced(host, in_blocks(audio, block), rate, take.hear)
        except KeyboardInterrupt:
            console.print("stopped")
        take.hear(host.finish())
        take.complete()
    totals = host.measured.totals
    console.print(
        f"{totals.samples_in / rate:.1f} s in, {totals.chunks} chunks, {totals.late_chunks} late, "
        f"{host.measured.underrun_samples / rate * 1000:.0f} ms of silence where output was missing"
    )


def chosen_ports(pack: str, offered: list[str], wanted: list[str] | None) -> list[str]:
    """The outputs that are heard: all that the pack offers, or those that were asked for."""
    from backline.cli.console import UserError

    for port in wanted or []:
        if port not in offered:
            raise UserError(f"{pack} has no output {port!r}: use {', '.join(offered)}")
    return wanted or offered


def mix_heard(blocks: dict[str, Audio], ports: list[str], dry: float) -> Audio:
    """What the speakers play [2, sample]: the outputs of these names, and the input at its gain."""
    from backline.cli.audio_files import mix, with_channels
    from backline.cli.paced import INPUT

    return mix({port: blocks[port] for port in ports}, 2) + dry * with_channels(blocks[INPUT], 2)


def play_on_card(
    sounddevice: Any,
    devices: tuple[str | None, str | None],
    host: Host,
    audio: Audio | None,
    rate: int,
    block: int,
    hear: Callable[[dict[str, Audio]], Audio],
) -> None:
    """Lets the sound card turn the host, until `audio` [channel, sample] is over; None: from the microphone, no end.

    `hear` turns what is heard per port into what the speakers play [2, sample].
    """
    from backline.cli.audio_files import with_channels
    from backline.cli.console import UserError, error_console, labelled

    done = threading.Event()
    failure: list[Exception] = []
    position = 0

    def turn(captured: Any, played: Any, frames: int, _time: Any, status: Any) -> None:
        nonlocal position
        if status:
            error_console.print(labelled("sound card", str(status), "yellow"))
        try:
            if audio is None:
                taken = captured.T.copy()
            else:
                taken = audio[:, position : position + frames]
                position += frames
            played[:] = 0.0
            if taken.shape[1]:
                heard = with_channels(hear(host.turn(taken)), played.shape[1])
                played[: heard.shape[1]] = heard.T
        except Exception as error:  # it would vanish in the audio thread: `play_on_card` raises it
            failure.append(error)
            raise sounddevice.CallbackStop from error
        if audio is not None and position >= audio.shape[1]:
            raise sounddevice.CallbackStop

    source, speakers = (int(name) if name is not None and name.isdecimal() else name for name in devices)
    shape = {"samplerate": rate, "blocksize": block, "dtype": "float32", "finished_callback": done.set}
    try:
        if audio is None:
            stream = sounddevice.Stream(device=(source, speakers), channels=(1, 2), callback=turn, **shape)
        else:
            stream = sounddevice.OutputStream(
                device=speakers, channels=2, callback=lambda *arguments: turn(None, *arguments), **shape
            )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UserError(f"the sound card does not open ({error}): see `backline live --list-devices`") from error
    with stream:
        while not done.wait(0.2):  # in steps, so that Ctrl+C is noticed
            pass
    if failure:
        raise failure[0]


def sounddevice_package(without: str) -> Any:
    """The sounddevice package, once it is sure that there is PortAudio and a device; else `without` is the remedy."""
    from backline.cli.console import UserError

    try:
        import sounddevice
    except OSError as error:  # what it raises where the library is missing
        text = f"PortAudio is not installed: install it (Debian: apt install libportaudio2), {without}"
        raise UserError(text) from error
    if not len(sounddevice.query_devices()):
        raise UserError(f"this machine has no audio device: connect one, {without}")
    return sounddevice
