"""Whatever happens to one session, those in the same call of the model play on sample-exact: every model that ships."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backline.engine.engine import Engine
from backline.engine.errors import BadInput, EngineError, Refused
from backline.models.stream import ChunkInput, Parameter
from tests.support.bystander import CHANNELS, PACKS, RATE, Guest, Table, company, feed, held, served
from tests.support.playing import settle

EXTREMES = (-0.0, 5e-324, -5e-324, 1e7, -1e7, 1e15, -1e15, 2.0**53, 1e300, 1e308, -1e308, math.inf, -math.inf, math.nan)
LIGHT = [name for name in PACKS if name != "stems"]  # for long tests of what happens before any model is asked
POSITIONS = (-1, 0, 2**31, 2**53, -(2**53), 2**63 - 1, -(2**63))


@pytest.fixture(scope="module", params=PACKS)
def pack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(pack: str) -> Iterator[Engine]:
    with served(pack) as engine:
        yield engine


def transport(guest: Guest, position: int = 0, **changes: Any) -> None:
    usual = {"playing": True, "tempo": 120.0, "song_position": 0.0, "bar_start": 0.0}
    guest.session.set_transport(position, **{**usual, **changes})


def ended_alone(table: Table, guest: Guest) -> EngineError:
    """The error that ended a guest's session; it blames neither the pack nor anybody else."""
    error = guest.heard.failed().error
    assert isinstance(error, EngineError), repr(error)
    assert "unload" not in str(error)
    assert "install" not in str(error)
    assert table.bystander.session in table.engine.list_sessions()
    return error


def test_two_who_share_every_call_play_what_each_plays_alone(engine: Engine, pack: str) -> None:
    with company(engine, pack, victims=2) as table:
        table.together(2)


@pytest.mark.parametrize(("song_position", "bar_start"), [(1e308, -1e308), (-1e308, 1e308), (1e8, 0), (0, -1e8)])
def test_a_song_position_that_no_song_has_is_refused(
    engine: Engine, pack: str, song_position: float, bar_start: float
) -> None:
    with company(engine, pack) as table:
        (victim,) = table.victims
        with pytest.raises(BadInput, match=f"{re.escape(f'{song_position:g}')}|{re.escape(f'{bar_start:g}')}"):
            transport(victim, song_position=song_position, bar_start=bar_start)
        table.together()


@pytest.mark.parametrize("position", [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
def test_a_sample_position_that_no_session_has_is_refused(engine: Engine, pack: str, position: int) -> None:
    with company(engine, pack) as table:
        (victim,) = table.victims
        with pytest.raises(BadInput, match=str(position)):
            transport(victim, position)
        with pytest.raises(BadInput, match=str(position)):
            victim.session.midi(position, b"\x90<d")
        with pytest.raises(BadInput, match=str(position)):
            victim.session.try_write(position, np.zeros((CHANNELS, 64), np.float32))
        for parameter in automatable(table)[:1]:
            with pytest.raises(BadInput, match=str(position)):
                victim.session.control(parameter.name, parameter.default, position)
        table.together()


@pytest.mark.parametrize("pack", LIGHT, indirect=True, scope="module")
def test_no_number_in_a_transport_hurts_anybody(engine: Engine, pack: str) -> None:
    """Each is refused, or its session plays on."""
    cases: list[dict[str, Any]] = [
        {name: value} for name in ("song_position", "bar_start", "tempo") for value in EXTREMES
    ]
    cases += [{"song_position": value, "bar_start": -value} for value in EXTREMES]
    cases += [{"tempo": 999.9, "song_position": 1e7, "bar_start": -1e7, "numerator": 64, "denominator": 64}]
    cases += [{"tempo": 5e-324, "numerator": 1, "denominator": 64}, {"numerator": 64, "denominator": 1}]
    cases += [{"numerator": value, "denominator": 4} for value in (0, -1, 65, 2**31)]
    cases += [{"position": value} for value in POSITIONS]
    batch = 6  # and one more, who stays in any case
    for at in range(0, len(cases), batch):
        some = cases[at : at + batch]
        with company(engine, pack, victims=1 + len(some)) as table:
            for victim, changes in zip(table.victims[1:], some, strict=True):
                try:
                    transport(victim, **changes)
                except BadInput:
                    victim.session.abort()
            table.together(2)
            for victim in table.victims:
                assert not any(hasattr(event, "error") for event in victim.heard.events), victim.heard.events[-1]


def automatable(table: Table) -> list[Parameter]:
    return [parameter for parameter in table.stream.spec.for_task("").parameters if parameter.automatable]


def test_parameters_at_their_limits_hurt_nobody(engine: Engine, pack: str) -> None:
    with company(engine, pack) as table:
        (victim,) = table.victims
        for parameter in automatable(table):
            for value in (math.nan, math.inf, parameter.maximum * 2 + 1, parameter.minimum - 1, 1e308, -1e308):
                with pytest.raises(BadInput):
                    victim.session.control(parameter.name, value)
            victim.session.control(parameter.name, parameter.maximum)
        table.together()
        for parameter in automatable(table):
            victim.session.control(parameter.name, parameter.minimum)
        table.together()
        assert not any(hasattr(event, "error") for event in victim.heard.events), victim.heard.events[-1]


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.4e38, -3.4e38, 1e20, 1e-45])
def test_samples_that_no_recording_has_hurt_nobody(engine: Engine, pack: str, value: float) -> None:
    with company(engine, pack) as table:
        (victim,) = table.victims
        samples = int(table.chunk * RATE)
        for chunk in range(3):
            with held(engine, pack):
                audio = np.full((CHANNELS, samples), value, np.float32)
                audio[:, 1::2] *= -1 if chunk % 2 else 1
                assert victim.session.try_write(chunk * samples, audio)
                feed(table.bystander, table.chunk)
            victim.sent += samples
            settle(engine)
        table.together()
        assert not any(hasattr(event, "error") for event in victim.heard.events), victim.heard.events[-1]


@pytest.mark.parametrize("bystander_first", [True, False])
def test_a_row_that_fails_in_the_midst_of_the_call_ends_alone(engine: Engine, pack: str, bystander_first: bool) -> None:
    """Its audio has channels that no session has, which the model notices after it has begun with others."""
    with company(engine, pack, victims=2) as table:
        table.together()
        victim = table.victims[0].session

        def spoil(inputs: Sequence[ChunkInput]) -> list[ChunkInput]:
            ordered = sorted(inputs, key=lambda given: given.row, reverse=not bystander_first)
            return [
                replace(given, audio=np.zeros((7, given.audio.shape[1]), np.float32))
                if given.row == victim.row
                else given
                for given in ordered
            ]

        table.stream.before = spoil
        table.together()
        ended_alone(table, table.victims[0])
        table.together()
        assert not table.victims[1].gone


def test_a_call_that_fails_whole_is_asked_again_row_by_row(engine: Engine, pack: str) -> None:
    with company(engine, pack, victims=2) as table:
        table.together()
        row = table.victims[0].session.row

        def refuse(inputs: Sequence[ChunkInput]) -> Sequence[ChunkInput]:
            if row in [given.row for given in inputs]:
                raise ZeroDivisionError("a weight is zero")
            return inputs

        table.stream.before = refuse
        table.together()
        assert "a weight is zero" in str(ended_alone(table, table.victims[0]))
        table.together()
        assert not table.victims[1].gone


@pytest.mark.parametrize("wrong", ["shape", "length", "ports", "missing", "twice", "position"])
def test_an_answer_that_is_wrong_ends_its_own_session_alone(engine: Engine, pack: str, wrong: str) -> None:
    with company(engine, pack, victims=2) as table:
        table.together()
        row = table.victims[0].session.row

        def spoil(answers: list[Any]) -> list[Any]:
            (answer,) = [answer for answer in answers if answer.row == row] or [None]
            if answer is None:
                return answers
            others = [other for other in answers if other.row != row]
            audio = answer.audio
            match wrong:
                case "shape":
                    spoilt = [replace(answer, audio=tuple(np.zeros((9, 64), np.float32) for _ in audio))]
                case "length":
                    spoilt = [replace(answer, audio=(*audio[1:], np.zeros((3, 5), np.float32)))]
                case "ports":
                    spoilt = [replace(answer, audio=(*audio, audio[0]))]
                case "missing":
                    spoilt = []
                case "twice":
                    spoilt = [replace(answer, audio=(*audio, audio[0])), replace(answer, audio=(*audio, audio[0]))]
                case _:
                    spoilt = [replace(answer, position="here")]
            return [*spoilt, *others]

        table.stream.after = spoil
        table.together()
        ended_alone(table, table.victims[0])
        table.together()
        assert not table.victims[1].gone


def test_a_row_of_nan_becomes_silence_in_its_own_session_alone(engine: Engine, pack: str) -> None:
    with company(engine, pack, victims=1) as table:
        table.together()
        row = table.victims[0].session.row
        table.stream.after = lambda answers: [
            replace(answer, audio=tuple(np.full_like(audio, np.nan) for audio in answer.audio))
            if answer.row == row
            else answer
            for answer in answers
        ]
        table.together(2)
        assert table.victims[0].heard.warnings("non_finite_output")
        assert np.isfinite(table.victims[0].heard.audio()).all()


@pytest.mark.parametrize("moment", ["before its chunk", "in the call", "while the call is prepared"])
def test_a_client_that_vanishes_is_missed_by_nobody(engine: Engine, pack: str, moment: str) -> None:
    with company(engine, pack, victims=2) as table:
        table.together()
        victim = table.victims[0].session
        if moment == "before its chunk":
            victim.abort()
        elif moment == "in the call":
            table.stream.before = lambda inputs: (victim.abort(), inputs)[1]  # type: ignore[func-returns-value]
        else:
            gather = victim.gather

            def gathered() -> ChunkInput:
                given = gather()
                victim.abort()
                return given

            victim.gather = gathered
        table.together()
        assert victim.closed.wait(20)
        table.together()
        assert not table.victims[1].gone


@pytest.mark.parametrize("callback", ["on a block", "on its end"])
def test_a_client_that_cannot_be_told_is_missed_by_nobody(engine: Engine, pack: str, callback: str) -> None:
    with company(engine, pack, victims=2) as table:
        table.together()
        victim = table.victims[0].session

        def fail(event: object) -> None:
            if callback == "on a block" or hasattr(event, "totals") or hasattr(event, "error"):
                raise RuntimeError("nobody there")

        victim._on_event = fail
        if callback == "on its end":
            victim.close_input()
        table.together()
        if callback == "on its end":
            assert victim.closed.wait(20)
        table.together()
        assert not table.victims[1].gone


@pytest.mark.parametrize("pack", LIGHT, indirect=True, scope="module")
@pytest.mark.parametrize("kind", ["control", "transport", "midi"])
@pytest.mark.parametrize("far", [0, 10**6, 2**40])
def test_floods_of_changes_hurt_nobody(engine: Engine, pack: str, kind: str, far: int) -> None:
    """They may be refused at some number; what is taken does not change what the others hear."""
    with company(engine, pack) as table:
        (victim,) = table.victims
        parameters = automatable(table)
        with suppress(BadInput):
            for index in range(3_000):
                position = far + index
                if kind == "midi":
                    victim.session.midi(position, b"\x90<d")
                elif kind == "transport":
                    transport(victim, position, song_position=float(7 * (index % 3)))
                elif parameters:
                    parameter = parameters[index % len(parameters)]
                    victim.session.control(parameter.name, parameter.minimum, position if index % 2 else None)
        table.together(2)
        assert not any(hasattr(event, "error") for event in victim.heard.events), victim.heard.events[-1]


def test_those_who_come_and_go_are_missed_by_nobody(engine: Engine, pack: str) -> None:
    with company(engine, pack, victims=1) as table:
        stop = threading.Event()
        failures: list[BaseException] = []

        def come_and_go() -> None:
            try:
                while not stop.is_set():
                    table_guest = open_and_leave(table)
                    assert table_guest.session.closed.wait(20)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=come_and_go) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            table.together(3)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert not failures, failures
        assert len(engine.list_sessions()) == 2


def open_and_leave(table: Table) -> Guest:
    guest = table.open()
    table.victims.remove(guest)
    guest.session.try_write(0, np.zeros((CHANNELS, 64), np.float32))
    guest.session.abort()
    return guest


@pytest.mark.parametrize("pack", LIGHT, indirect=True, scope="module")
@pytest.mark.parametrize("error", [MemoryError("out of memory"), RuntimeError("CUDA out of memory"), KeyError("row")])
def test_a_session_that_cannot_be_opened_leaves_no_row_behind(engine: Engine, pack: str, error: Exception) -> None:
    with company(engine, pack) as table:
        table.together()
        required = table.stream._stream.required_input

        def fail(row: int) -> int:
            raise error

        table.stream.required_input = fail  # type: ignore[method-assign]
        with pytest.raises(Refused if "memory" in str(error) else KeyError):
            table.open()
        del table.stream.required_input
        assert table.stream.required_input == required
        table.together()
        guests = [table.open(seed) for seed in range(6)]
        assert len(guests) == 6, "the row has been given back"
