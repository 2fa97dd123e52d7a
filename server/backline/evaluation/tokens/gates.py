"""What a DuoTok that ships must reach by this protocol: those of DuoTok's claims that its rows can hold or miss."""

from __future__ import annotations

from collections.abc import Mapping

from backline.evaluation.tokens.evaluate import BOTH, GIVEN_VOICE, MATCHED, row_of
from backline.evaluation.tokens.reconstruction import LOG_MEL, PESQ, STOI
from backline.evaluation.tokens.tokenizers import ACCOMPANIMENT, TRACKS, VOCALS
from backline.measures.report import Gate, Row

MEL = "k-means of mel"
CODEC, HARMONY = "default, codec", "default, harmony"  # the rows of the default pack


def token_gates(name: str, rows: Mapping[str, Row]) -> list[Gate]:
    """Of the tokenizer of that name, as far as there is what they are judged by: other rows, and renderers."""

    def at(what: str, column: str, tokenizer: str = name) -> float | None:
        found = rows.get(row_of(tokenizer, what), {}).get(column)
        return None if found is None else found.mean

    gates: list[Gate] = []

    def at_most(said: str, found: float | None, limit: float | None, than: str = "") -> None:
        if found is not None and limit is not None:
            gates.append(Gate(said, found, f"at most {limit:.3g}{than}", found <= limit))

    def at_least(said: str, found: float | None, limit: float | None, than: str = "") -> None:
        if found is not None and limit is not None:
            gates.append(Gate(said, found, f"at least {limit:.3g}{than}", found >= limit))

    at_most("cnBPS of both tracks", at(BOTH, "cnBPS"), 30)
    at_most("enBPT where the voice is known", at(GIVEN_VOICE, "enBPT"), 0.62)
    at_most("enBPT of both tracks", at(BOTH, "enBPT"), at(BOTH, "enBPT", MEL), f", as {MEL}")
    for track in TRACKS:
        limit = at(track, MATCHED + LOG_MEL, MEL)
        at_most(f"{track}: {MATCHED}{LOG_MEL}", at(track, MATCHED + LOG_MEL), limit, f", as {MEL}")
    at_least("cost of another song's voice, %", at(GIVEN_VOICE, "mismatch %"), 8)
    at_least("cost of a voice one bar off, %", at(GIVEN_VOICE, "shift 1 bar %"), 3)
    short, long = at(BOTH, "cnBPT by 5 s"), at(BOTH, "cnBPT by 20 s")
    if short is not None and long is not None:
        at_least("gain of 20 s of context over 5 s, %", 100 * (short - long) / short, 3)
    for track in TRACKS:
        at_least(f"{track}: entries in use", at(track, "entries in use"), 0.9)
        at_least(f"{track}: entropy share", at(track, "entropy share"), 0.85)
    if (codec := at(BOTH, "tag AP", CODEC)) is not None:
        at_least("tag AP", at(BOTH, "tag AP"), codec + 0.1, f", .10 above {CODEC}")
    at_least("tag AUC", at(BOTH, "tag AUC"), 0.85)
    if (harmony := at(BOTH, "chord found", HARMONY)) is not None:
        at_least("chord found", at(BOTH, "chord found"), harmony - 0.03, f", .03 below {HARMONY}")
    at_least("voice: STOI", at(VOCALS, STOI), 0.55)
    at_least("voice: PESQ", at(VOCALS, PESQ), 1.5)
    at_most("accompaniment: log-mel L1", at(ACCOMPANIMENT, LOG_MEL), 1.0)
    return gates
