"""What a session may ask of a model: held against what the model takes before anything of it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backline.engine.errors import BadInput, NotFound
from backline.engine.limits import LONGEST_JITTER_BUFFER, MAXIMUM_BLOCK, MAXIMUM_CHANNELS, RATES, quoted
from backline.models.stream import SessionConfig, StreamSpec


def checked(
    name: str,
    spec: StreamSpec,
    config: SessionConfig,
    block_size: int,
    jitter_buffer_seconds: float = 0.0,
    new_takes: bool = False,
) -> tuple[StreamSpec, SessionConfig]:
    """What model `name` takes and gives in the session's task, and `config` with every parameter.

    Raises:
        NotFound: no such task or parameter.
        BadInput: a value that cannot be served; the message names the range.
    """
    try:
        spec = spec.for_task(config.task)
    except ValueError as error:
        raise NotFound(f"no task {quoted(config.task)} in {name!r}: {error}") from error
    if not RATES[0] <= config.sample_rate <= RATES[1]:
        raise BadInput(f"sample rate is {config.sample_rate} Hz: use {RATES[0]} to {RATES[1]}")
    if not 1 <= config.channels <= MAXIMUM_CHANNELS:
        raise BadInput(f"the session has {config.channels} channels: use 1 to {MAXIMUM_CHANNELS}")
    quantum, longest = spec.chunk_quantum_seconds, spec.maximum_chunk_seconds
    if not 0 < config.chunk_seconds <= longest or config.chunk_seconds % quantum:
        raise BadInput(
            f"chunk is {float(config.chunk_seconds):g} s: use a multiple of {float(quantum):g} s "
            f"up to {float(longest):g} s"
        )
    earliest, latest = spec.minimum_visibility_seconds, spec.latest_visibility(config.chunk_seconds)
    if not earliest <= config.visibility_seconds <= latest:
        raise BadInput(
            f"visibility is {config.visibility_seconds:g} s: use {earliest:g} to {latest:g} s with chunks of "
            f"{float(config.chunk_seconds):g} s"
        )
    if not 0 <= config.seed < 2**64:
        raise BadInput(f"seed is {config.seed}: use 0 to 2^64 - 1")
    parameters = checked_parameters(name, spec, config.parameters)
    config = replace(config, parameters=parameters, want_audio=config.want_audio and bool(spec.ports))
    if not 0 < block_size <= MAXIMUM_BLOCK:
        raise BadInput(f"block size is {block_size}: use 1 to {MAXIMUM_BLOCK} samples")
    if not 0 <= jitter_buffer_seconds <= LONGEST_JITTER_BUFFER:
        raise BadInput(f"jitter buffer is {jitter_buffer_seconds:g} s: use 0 to {LONGEST_JITTER_BUFFER}")
    if new_takes:
        check_one_line(spec)
    return spec, config


def check_one_line(spec: StreamSpec) -> None:
    """Refuses several takes of a model that cannot begin anew.

    Raises:
        BadInput: it takes codec frames, which count from the session's start.
    """
    if spec.takes:
        raise BadInput("a pack that takes codec frames plays one take only: use ON_JUMP_CONTINUE, and send no Take")


def checked_parameters(name: str, spec: StreamSpec, given: Mapping[str, float]) -> dict[str, float]:
    """Every parameter of model `name` with its value: the one given, or the default.

    Raises:
        NotFound: no such parameter.
        BadInput: out of range.
    """
    known = {parameter.name: parameter for parameter in spec.parameters}
    for wanted in given:
        if wanted not in known:
            raise NotFound(f"no parameter {quoted(wanted)} in {name!r}: use {', '.join(known) or 'none'}")
    try:
        return {wanted: parameter.check(given.get(wanted, parameter.default)) for wanted, parameter in known.items()}
    except ValueError as error:
        raise BadInput(str(error)) from error


def checked_change(name: str, spec: StreamSpec, parameter: str, value: float) -> float:
    """The new value of a parameter of model `name` while it plays.

    Raises:
        NotFound: no such parameter.
        BadInput: out of range, or fixed when the session opens.
    """
    known = {entry.name: entry for entry in spec.parameters}
    if parameter not in known:
        raise NotFound(f"no parameter {quoted(parameter)} in {name!r}: use {', '.join(known) or 'none'}")
    if not known[parameter].automatable:
        raise BadInput(f"parameter {parameter!r} is fixed when the session opens: open a new session with it")
    try:
        return known[parameter].check(value)
    except ValueError as error:
        raise BadInput(str(error)) from error
