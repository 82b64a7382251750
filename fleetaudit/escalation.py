"""How commands run as another user: the methods, and what may be said to their programs.

Flags that fleetaudit gives itself are dropped, those that change what is run or how a password is asked for
are refused. Sources: sudo(8) of sudo 1.9, su(1) of util-linux, doas(1) of OpenDoas, run0(1) of systemd 256.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Final

METHODS: Final = ("sudo", "doas", "su", "run0")
PASSWORDLESS: Final = frozenset({"run0"})  # polkit asks, and not us

# No blank, quote, backslash or exclamation mark, which csh and fish read otherwise than sh.
_PROGRAM: Final = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]{0,254}")
_VALUE: Final = re.compile(r"[A-Za-z0-9_./+,:=@%-]{0,255}")


@dataclass(frozen=True, slots=True)
class _Grammar:
    """Letters that stand alone, those with a value, and the long names of either; `ours` are dropped."""

    alone: str = ""
    valued: str = ""
    long_alone: frozenset[str] = frozenset()
    long_valued: frozenset[str] = frozenset()
    ours: str = ""
    long_ours: frozenset[str] = frozenset()


_GRAMMARS: Final = {
    "sudo": _Grammar(
        alone="EHPN",
        valued="grtCD",
        long_alone=frozenset({"preserve-env", "set-home", "preserve-groups", "no-update"}),
        long_valued=frozenset({"preserve-env", "group", "role", "type", "close-from", "chdir"}),
        ours="nS",
        long_ours=frozenset({"non-interactive", "stdin"}),
    ),
    "doas": _Grammar(ours="n"),
    "su": _Grammar(
        alone="lmpf", long_alone=frozenset({"login", "preserve-environment", "fast"}), valued="gG"
    ),
    "run0": _Grammar(
        valued="gD",
        long_alone=frozenset({"slice-inherit", "pipe"}),
        long_valued=frozenset({"group", "chdir", "nice", "slice", "background", "description", "property"}),
        long_ours=frozenset({"no-ask-password"}),
    ),
}


def program(text: str) -> str:
    """The name or path of a program that stands in for a method's. Raises ValueError."""
    if not _PROGRAM.fullmatch(text):
        raise ValueError("it is not the name or the path of one program (letters, digits, . _ / + -)")
    return text


def flags(method: str, text: str) -> tuple[str, ...]:
    """The flags of a method's program, split as a shell splits them, without those that fleetaudit gives.

    Raises ValueError, which repeats no value.
    """
    grammar = _GRAMMARS[method]
    words = shlex.split(text)
    kept: list[str] = []
    while words:
        word = words.pop(0)
        if word == "-" and method == "su":
            kept.append("-l")
        elif word.startswith("--"):
            kept += _long(grammar, word, method)
        elif len(word) > 1 and word[0] == "-":
            kept += _short(grammar, word, words, method)
        else:
            raise ValueError("there is a word that is no flag, or the value of none")
    return tuple(kept)


def _long(grammar: _Grammar, word: str, method: str) -> list[str]:
    name, is_valued, value = word[2:].partition("=")
    if name in grammar.long_ours and not is_valued:
        return []
    if name not in (grammar.long_valued if is_valued else grammar.long_alone):
        raise ValueError(_refusal(f"--{name}", method))
    return [f"--{name}={_value(value)}" if is_valued else word]


def _short(grammar: _Grammar, word: str, following: list[str], method: str) -> list[str]:
    kept: list[str] = []
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in grammar.valued:
            if not letters and not following:
                raise ValueError(f"-{letter} has no value")
            return [*kept, f"-{letter}", _value(letters or following.pop(0))]
        if letter in grammar.alone:
            kept.append(f"-{letter}")
        elif letter not in grammar.ours:
            raise ValueError(_refusal(f"-{letter}", method))
    return kept


def _value(text: str) -> str:
    if not text or not _VALUE.fullmatch(text):
        raise ValueError("a flag's value holds something else than letters, digits and . _ / + , : = @ % -")
    return text


def _refusal(flag: str, method: str) -> str:
    shown = flag if flag.isascii() and flag.isprintable() and len(flag) < 40 else "a flag"
    return f"{shown} of {method} is not passed on: it changes what is run, or who asks for what"
