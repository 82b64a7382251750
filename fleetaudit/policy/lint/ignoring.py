"""Comments that silence lint: `# fleetaudit: ignore=ID, ID` on the line of a problem, or the one above."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

from fleetaudit.errors import Place, Problem

_COMMENT = re.compile(r"(?:^|\s)#\s*fleetaudit:\s*ignore=(?P<ids>[A-Za-z0-9-]+(?:\s*,\s*[A-Za-z0-9-]+)*)")


def unsilenced(
    problems: Sequence[Problem], text: str, file: str, known: Collection[str], unasked: Collection[str]
) -> tuple[Problem, ...]:
    """The problems that no comment silences, and the comments that silence nothing.

    `known` are all lint rules, `unasked` those that were not looked for: a comment about them waits.
    """
    comments = {
        number: (line, found)
        for number, line in enumerate(text.splitlines(), start=1)
        if (found := _COMMENT.search(line))
    }
    wanted = {
        (number, word.strip()): Place(file, number, found.start("ids") + 1)
        for number, (_, found) in comments.items()
        for word in found["ids"].split(",")
    }
    # A comment alone on its line speaks for the next one.
    speaks_for = {
        number: number + 1 if line[: found.start() + 1].strip(" \t#") == "" else number
        for number, (line, found) in comments.items()
    }
    used = set()
    left = []
    for problem in problems:
        line = problem.place.line if problem.place else 0
        silencing = {
            (number, code)
            for number, code in wanted
            if code == problem.code and line in (number, speaks_for[number])
        }
        used |= silencing
        if not silencing:
            left.append(problem)
    for (number, code), place in wanted.items():
        if (number, code) not in used and code not in unasked:
            left.append(_idle(code, place, known))
    return tuple(left)


def _idle(code: str, place: Place, known: Collection[str]) -> Problem:
    if code in known:
        return Problem(f"there is no {code} here to ignore", place, "remove the comment", "idle-ignore")
    near = difflib.get_close_matches(code, sorted(known), n=1)
    hint = f"did you mean {near[0]}?" if near else "see docs/authoring.md for their names"
    return Problem(f"there is no lint rule '{code}'", place, hint, "idle-ignore")
