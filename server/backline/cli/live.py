"""`backline live`: sing into a microphone, or play a file, and hear the band."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backline.cli import options

if TYPE_CHECKING:
    from backline.cli.paced import Audio
    from backline.cli.scenes import Scene
    from backline.cli.sound_card import Card
    from backline_client import Client, Link, Session, SessionOptions, TokenReader

RATE = 48_000  # Hz, of a card that has it
MIX = ""  # name of the mix beside those of the outputs, none of which may have it


def live(
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Stream this file, paced in real time, not the microphone; a token file (.duo) to a pack that takes "
            "tokens.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Record what is heard, moved back under the input; into a folder (ending in /), a file for each "
            "output. With --input too, no sound card is used."
        ),
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record the pack's tokens too, see `backline tokens decode`.")
    ] = None,
    ports: Annotated[
        list[str] | None,
        typer.Option("--port", help="Hear only this output of the pack; may be given several times."),
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="Show the audio devices and stop.")] = False,
    input_device: Annotated[str | None, typer.Option(help="Number or part of the name of the microphone.")] = None,
    output_device: Annotated[str | None, typer.Option(help="Number or part of the name of the speakers.")] = None,
    input_channels: Annotated[
        list[int] | None,
        typer.Option(
            "--input-channel",
            help="Hear only this input of the microphone's device, from 1; may be given several times. Left out: the "
            "first two, or the one that there is.",
            min=1,
        ),
    ] = None,
    block: Annotated[int, typer.Option(help="Samples per block.", min=16, max=8192)] = 256,
    rate: Annotated[
        int | None,
        typer.Option(
            help="Sample rate of the sound card in Hz. Left out: 48000 or the file's, or what the card has.",
            min=8_000,
            max=192_000,
        ),
    ] = None,
    dry: Annotated[
        float, typer.Option(help="Gain of the input in what is heard, delayed as the band is.", callback=options.finite)
    ] = 0.0,
    jitter_buffer: Annotated[
        float,
        typer.Option(help="Seconds held back against a restless network.", min=0, max=60, callback=options.finite),
    ] = 0.0,
    reconnect: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="For so long a server that is lost is looked for; meanwhile only your input is heard.",
            min=0,
            max=86_400,
            callback=options.finite,
        ),
    ] = 120.0,
    pack: options.PackName = "default",
    server: options.Server = None,
    key_file: options.KeyFile = None,
    ca: options.Authority = None,
    client_cert: options.ClientCertificate = None,
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    seed: options.Seed = None,
    chunk: options.Chunk = None,
    visibility: options.Visibility = None,
    guidance: options.Guidance = None,
    temperature: options.Temperature = None,
    settings: options.Settings = None,
    texts: options.Texts = None,
    task: options.Task = None,
    inputs: options.Inputs = None,
    tempo: options.Tempo = None,
    signature: options.Signature = "4/4",
    downbeat: options.Downbeat = 0.0,
    layout: options.Layout = options.ChannelLayout.AUTO,
    midi_in: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PORT",
            help="Number or part of the name of a MIDI port: its notes, controllers and clock lead the band; `virtual` "
            "opens one of our own. May be given several times.",
        ),
    ] = None,
    list_midi: Annotated[bool, typer.Option("--list-midi", help="Show the MIDI ports and stop.")] = False,
    mapped: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="ccN=PARAMETER",
            help="A controller moves a parameter through its range, at once; may be given several times.",
        ),
    ] = None,
    learn: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARAMETER",
            help="The next controller that moves leads this parameter, and you are told the --map to write next time; "
            "may be given several times, for one controller after the other.",
        ),
    ] = None,
    link: Annotated[
        bool,
        typer.Option("--link", help="Take tempo and beat from Ableton Link, in place of every MIDI clock."),
    ] = False,
    name: Annotated[
        str, typer.Option(help="What the server's list of sessions calls this one.", callback=options.printable)
    ] = "backline",
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the session's event log there, with which `backline render --replay` plays it again.",
        ),
    ] = None,
    log_audio: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="And what you sing or play, as a .wav, which a replay needs as its --input."),
    ] = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Measure the network, and have the server choose --chunk and --visibility so that the band plays in "
            "time, without delay; it says how safe that is.",
        ),
    ] = False,
    scenes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Play this set list, see `backline scenes check`; its scenes have what else is said here where they "
            "do not say it. Type next, scene NAME or take, and the next bar brings it; text WORDS is a new text.",
        ),
    ] = None,
    steered: Annotated[
        bool,
        typer.Option(
            "--steered",
            help="Without a set list, too, do what is typed: take, take SEED, pack NAME, text WORDS, learn PARAMETER.",
        ),
    ] = False,
) -> None:
    """Play along live. Stop with Ctrl+C; what was recorded is kept, whatever happens.

    Example: [cyan]backline live --tempo 96 --visibility -1[/]

    Without a sound card: [cyan]backline live --input voice.wav --output band.wav[/]

    Led by a keyboard and a DAW's clock: [cyan]backline live --visibility -1 --midi-in Launchkey --midi-in DAW[/]

    A token file, heard as it would have been sung: [cyan]backline live --input song.duo --pack duotok[/]

    One stem of a song: [cyan]backline live --input song.wav --pack stems --port vocals[/]

    A knob for it: [cyan]backline live --midi-in Launchkey --learn guidance[/]

    A set list: [cyan]backline live --scenes set.toml[/]

    A pack that hears a text, of which each line that you type is the new one (NAME=WORDS, where it hears several):
    [cyan]backline live --pack mge --text query="the bass"[/]
    """
    if list_devices:
        from backline.cli.sound_card import WITHOUT_CARD, sounddevice_package

        typer.echo(str(sounddevice_package(WITHOUT_CARD).query_devices()))
        return
    if list_midi:
        from backline.cli.midi_in import MidiInputs, rtmidi_package

        midi = MidiInputs(rtmidi_package())
        lines = [f"{number:>3} {port.name}" for number, port in enumerate(midi.sources())]
        typer.echo("\n".join([*lines, *midi.problems]) or "nothing sends MIDI")
        return
    credentials = options.credentials(server, key_file, ca, client_cert)
    parameters = options.parse_settings(settings, guidance=guidance, temperature=temperature)
    transport = options.parse_transport(tempo, signature, downbeat)
    wanted = options.session_options(chunk, visibility, seed, parameters, layout, texts, task, inputs)
    wanted |= {"jitter_buffer_seconds": jitter_buffer, "client_name": name, "want_log": log is not None}
    if (steered or scenes is not None) and (log is not None or auto):
        raise typer.BadParameter("--log and --auto are for one session: leave --scenes and --steered out")
    if auto and (chunk is not None or visibility is not None):
        raise typer.BadParameter("--auto chooses --chunk and --visibility: leave them out")
    if log_audio is not None and log is None:
        raise typer.BadParameter("--log-audio goes with --log: say where")

    import numpy as np

    from backline.cli import scenes as set_lists
    from backline.cli.arrival import Arrival
    from backline.cli.audio_files import change_rate, read_audio, served_rate
    from backline.cli.conductor import Leads
    from backline.cli.connection import connected
    from backline.cli.console import UserError, console
    from backline.cli.paced import INPUT, Host, TokenFeed, in_blocks, play_paced
    from backline.cli.sound_card import WITHOUT_CARD, Played, find_card, play_on_card, sounddevice_package
    from backline.cli.stage import MIXED, Stage
    from backline.cli.status import telling
    from backline.cli.takes import LiveTake, PortFiles, TokenTake, ended_in_order
    from backline_client import BacklineError, TokenHeader, TokenReader
    from backline_client.token_file import SUFFIX

    leads = Leads.at(midi_in or [], mapped or [], learn or [], link, tempo, signature)
    sent = TokenReader(source) if source is not None and source.suffix == SUFFIX else None
    audio: Audio | None = None
    file_rate = RATE
    if sent is not None:
        audio, file_rate = np.zeros((1, sent.header.samples), np.float32), sent.header.sample_rate
    elif source is not None:
        audio, file_rate = read_audio(source)
    if (sent or tokens) and (steered or scenes):
        raise UserError("scenes have tokens of their own: leave --scenes and --steered out, or the token file")
    if tokens is not None:
        wanted["want_frames"] = True
    files = None if output is None else PortFiles.at(output)
    alone = set_lists.Scene("", pack, wanted, tuple(ports or ()))
    try:
        listed = [alone] if scenes is None else set_lists.read_set(scenes, alone)
    except UserError:
        if not steered:
            raise
        # Whoever steers may be elsewhere, and is told nothing of what may be another file.
        raise UserError(f"{scenes} is no set list that can be played: `backline scenes check` tells why") from None
    told, steered = steered, steered or scenes is not None
    if steered and files is not None and files.is_folder:
        raise UserError("scenes have outputs of their own: record their mix, as with --output band.wav")
    session_rate = served_rate(file_rate)
    card: Card | None = None
    if audio is None or files is None:
        sounddevice = sounddevice_package(WITHOUT_CARD)
        devices = (input_device, output_device)
        card = find_card(sounddevice, devices, rate, session_rate, input_channels, listens=audio is None)
        if card.rate != (rate or session_rate):
            console.print(f"the sound card has no {session_rate} Hz: it plays at {card.rate} Hz")
        session_rate = card.rate
        channels = len(card.input_channels)
    if audio is not None:
        audio = change_rate(audio, file_rate, session_rate)
        channels = audio.shape[0]
    problem: Exception | None = None
    with (
        ended_in_order(),
        connected(server, packs or [], device, apart=card is not None, credentials=credentials) as client,
        advised(client, pack, session_rate, channels, block, tempo, wanted) if auto else nullcontext(),
        set_lists.checked(client, scenes, listed).open(
            listed[0].pack,
            session_rate,
            channels,
            block_size=block,
            reconnect_seconds=0.0 if server is None else reconnect,  # nobody starts one of our own again
            **for_tokens(client, pack, listed[0].options, sent),
        ) as session,
        ExitStack() as stack,
    ):
        heard_ports = ports_of(listed[0], session)
        host: Host | Stage
        token_take: TokenTake | None = None
        if steered:
            shape = session_rate, channels, block
            host = Stage(client, listed, session, ports_of, shape, transport, leads.mapped)
            stack.callback(host.close)
            latency, heard_ports = host.latency_samples, [MIXED]
            host.listen(0)
        else:
            logged = None if log is None else stack.enter_context(log_file(log))
            feed = None if sent is None else TokenFeed(stack.enter_context(sent), session_rate)
            if tokens is not None:
                token_take = stack.enter_context(TokenTake(tokens, TokenHeader.of(client.pack(pack), session_rate)))
            taken = None if token_take is None else token_take.add
            host = Host(session, session_rate, channels, feed=feed, tokens=taken, on_link=tell_link, log=logged)
            latency = session.latency_samples
            for beat in transport:
                session.transport(beat)
            take_texts(client, pack, session)
        milliseconds = latency / session_rate * 1000
        said = f"{listed[0].pack} at {session_rate} Hz, end-to-end latency {milliseconds:.0f} ms; stop with Ctrl+C"
        console.print(said)
        paths = {} if files is None else files.paths(heard_ports if files.is_folder else [MIX], source)
        widths = {port.name: port.channels for port in session.ready.ports} | {MIX: 2, INPUT: channels}
        if log_audio is not None:
            paths[INPUT] = log_audio

        def recorded(blocks: dict[str, Audio]) -> dict[str, Audio]:
            """What is heard as it goes into files: the outputs, or their mix."""
            return {name: mix_heard(blocks, heard_ports, dry) if name == MIX else blocks[name] for name in paths}

        played, stage = Played(), host if isinstance(host, Stage) else None
        frames = None if audio is None else audio.shape[1]
        take = stack.enter_context(LiveTake(paths, widths, session_rate, latency, frames, recorded))

        def hear(blocks: dict[str, Audio]) -> Audio:
            take.hear(blocks)
            return mix_heard(blocks, heard_ports, dry)

        def hear_paced(blocks: dict[str, Audio]) -> None:
            take.hear(blocks)
            played.arrivals.append(Arrival(time.monotonic(), None, (stage or session).position))

        program = None if stage is None else lambda number: stage.ask(f"scene {number}")
        with (
            ExitStack() as shown,
            leads.conducting(
                client, listed, stage or session, session_rate, played.arrivals, program,
                playing=None if stage is None else stage.playing,
            ) as conductor,
        ):  # fmt: skip
            if stage is not None and conductor is not None:
                stage.learn, stage.mapped = conductor.learn, conductor.mapped
            if stage is not None and told:
                heard_midi = dict if conductor is None else conductor.figures
                shown.enter_context(telling(lambda: {**stage.figures(), "midi": heard_midi()}))
            try:
                if card is not None:
                    # Silence after a file, so that its last samples are heard before the card stops.
                    sung = None if audio is None else np.pad(audio, ((0, 0), (0, latency)))
                    play_on_card(card, host, sung, block, hear, played)
                elif audio is not None:
                    play_paced(host, in_blocks(audio, block), session_rate, hear_paced)
            except KeyboardInterrupt:
                console.print("stopped")
            except Exception as error:  # whatever it is, what was heard so far has its tail
                problem = error
        problem = problem or played.lost
        try:
            tail = host.tail() if isinstance(problem, BacklineError) else host.finish()
        except (BacklineError, TimeoutError) as error:
            problem, tail = error, host.tail()
        session.cancel()  # without effect where it has ended in order; else nothing is waited for any more
        take.hear(tail)
        if problem is None:
            take.complete()
            if token_take is not None:
                token_take.complete()
        totals = host.measured.totals
        said = f"{totals.samples_in / session_rate:.1f} s in, {totals.chunks} chunks, {totals.late_chunks} late, "
        silence = f"{host.measured.underrun_samples / session_rate * 1000:.0f} ms of silence where output was missing"
        dropouts = "" if card is None else f", {played.dropouts} dropouts of the sound card"
        console.print(("" if isinstance(problem, BacklineError) else said) + silence + dropouts)
        if host.measured.marked:
            measured = host.measured.marked_percentile(95) * 1000
            console.print(f"output came {measured:.0f} ms after its input (p95, by markers), of {milliseconds:.0f} ms")
    if problem is not None:
        raise problem


def for_tokens(client: Client, pack: str, options: SessionOptions, sent: TokenReader | None) -> SessionOptions:
    """`options` of a session that is sent a token file, where there is one.

    Raises:
        TokenFileError: the pack does not take it.
    """
    if sent is None:
        return options
    described = client.pack(pack)
    sent.check(described)
    task = next((each.name for each in described.tasks if each.takes), "")
    return {"task": task, **options}


def tell_link(link: Link) -> None:
    """Says that the server is lost, or is there again."""
    from backline.cli.console import console, error_console, labelled

    if not link.up:
        text = f"{link.said}. Only your input is heard, at its --dry gain, until it is there again"
        error_console.print(labelled("server lost", text, "bold red"), soft_wrap=True)
    else:
        console.print(f"the server is back: {'the band goes on' if link.resumed else 'the band begins anew'}")


@contextmanager
def advised(
    client: Client, pack: str, rate: int, channels: int, block: int, tempo: float | None, wanted: SessionOptions
) -> Iterator[None]:
    """Measures the network, and asks for the chunk and visibility that the server advises, so that nothing is late."""
    from backline.cli.console import console
    from backline_protos.v1 import backline_pb2 as pb

    client.load_pack(pack)
    advice = client.advise(
        pack, rate, channels, block_size=block, round_trip_seconds=client.round_trip_seconds(), tempo=tempo or 0.0,
        **wanted,
    )  # fmt: skip
    wanted["chunk_seconds"], wanted["visibility_seconds"] = advice.chunk_seconds, advice.visibility_seconds
    verdict = pb.Verdict.Name(advice.verdict).removeprefix("VERDICT_").lower()
    said = f"chunks of {advice.chunk_seconds:g} s, visibility {advice.visibility_seconds:g} s: {verdict}"
    console.print(f"{said} ({advice.reason})", soft_wrap=True)
    yield


@contextmanager
def log_file(path: Path) -> Iterator[Callable[[str], None]]:
    """A new file for an event log, to which every line goes at once; an older one is never replaced."""
    from backline.cli.console import UserError

    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        raise UserError(f"{path} is there already: give the log another name") from None
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    with file:
        yield lambda line: None if file.closed else print(line, file=file, flush=True)


def take_texts(client: Client, pack: str, session: Session) -> None:
    """Has every line that is typed be a text of the session, where it hears any."""
    from backline.cli.console import UserError, error_console, labelled
    from backline.cli.typed import REFUSED, read_lines, set_text, texts_of
    from backline_client import BacklineError

    names = texts_of(client, pack, session)

    def obey(line: str) -> None:
        if not line:
            return
        try:
            set_text(line, session, names)
        except (UserError, BacklineError) as error:
            error_console.print(labelled(REFUSED, str(error), "yellow"), soft_wrap=True)

    if names:
        read_lines(0, obey)


def ports_of(scene: Scene, session: Session) -> list[str]:
    """The outputs of a scene that are heard."""
    return chosen_ports(scene.pack, [port.name for port in session.ready.ports], list(scene.ports))


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
