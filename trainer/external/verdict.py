"""How a program's run has ended: its result decides, its exit code is only a hint. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contract import RESULT, Kill, State, run_state
from trainer.external.acceptance import Mismatch, Result
from trainer.external.program import ending


@dataclass(frozen=True)
class Verdict:
    """The final state and the error that goes with it."""

    state: State
    error: str | None = None
    faults: list[str] = field(default_factory=list)
    """Every mismatch of a rejected result."""
    notes: list[str] = field(default_factory=list)


def conclude(
    code: int,
    kill: Kill | None,
    document: Mapping[str, Any],
    result: Result | None,
    mismatches: list[Mismatch],
    last_words: str,
) -> Verdict:
    """The verdict on a run.

    Args:
        code: the program's exit code; negative: the signal that ended it.
        kill: the request to stop that it was under; None where nobody asked.
        document: the last status document that was read.
        result: what the program has come to; None where it was not accepted.
        mismatches: what is wrong with the result.
        last_words: the end of the program's output.
    """
    told = f"; last output: {last_words}" if last_words else ""
    if kill is not None or ("state" in document and run_state(document) is State.KILLED):
        return Verdict(State.KILLED, notes=[f"the program stopped ({ending(code)})"])
    if result is None and [fault.field for fault in mismatches] == [RESULT] and mismatches[0].actual is None:
        missing = mismatches[0].expected == "a file"
        what = f"no {RESULT}" if missing else f"{mismatches[0].reason}"
        return Verdict(State.FAILED, f"{ending(code)}, but {what}{told}")
    if result is None:
        faults = [str(fault) for fault in mismatches]
        return Verdict(State.FAILED, f"{RESULT} was rejected: {'; '.join(faults)}", faults)
    if result.failure is not None:
        return Verdict(State.FAILED, f"{result.failure}{told}")
    hint = [f"{ending(code)}, but {RESULT} says completed and is in order"] if code else []
    return Verdict(State.COMPLETED, notes=hint)
