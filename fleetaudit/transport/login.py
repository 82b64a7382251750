"""Logging in: which methods are tried, in which order, and what is said when none of them did.

RFC 4252; keyboard-interactive: RFC 4256.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

import paramiko

from fleetaudit.errors import AuthError
from fleetaudit.model import Secret
from fleetaudit.text import visible
from fleetaudit.transport.identity import Offer

T = TypeVar("T")
# Has a person answer what the host asks; None if nobody does.
Question: TypeAlias = Callable[[str], Secret | None]

_KEYS, _PASSWORD, _INTERACTIVE = "publickey", "password", "keyboard-interactive"
# A host may want several methods one after another, and say only then which; none of it without end.
_MOST_METHODS: Final = 8
_MOST_PROMPTS: Final = 16
_LONGEST_PROMPT: Final = 200
# A hidden prompt that is for something else than the password that we have.
_OTHER_SECRET: Final = re.compile(
    r"one.?time|\botp\b|code|token|\bpin\b|factor|verif|authenticator|challenge|response|yubi"
    r"|new password|retype",
    re.IGNORECASE,
)


class Login:
    """Tries keys, the password and answers to what the host asks, and keeps account for the message.

    `trusted`: the host has proved who it is, so that secrets may be sent.
    """

    def __init__(
        self,
        user: str,
        password: Secret | None,
        session: paramiko.Transport,
        question: Question | None,
        *,
        trusted: bool,
    ) -> None:
        self._user = user
        self._password = password
        self._session = session
        self._question = question
        self._trusted = trusted
        self._allowed: list[str] | None = None  # as far as the host has said
        self._refused: list[str] = []
        self._problems: list[str] = []
        self._done = False
        self._prompts: list[str] = []

    def run(self, offers: list[Offer], problems: list[str]) -> None:
        """Log in, or raise AuthError saying what was tried and what could not be."""
        self._problems += problems
        if not offers and self._password is None and self._question is None:
            raise AuthError("; ".join(["no key and no password to log in with", *problems]))
        stages = {
            _KEYS: lambda: self._try_keys(offers),
            _PASSWORD: self._try_password,
            _INTERACTIVE: self._try_answers,
        }
        for _ in range(_MOST_METHODS):
            possible = [name for name in stages if self._allowed is None or name in self._allowed]
            if not possible:
                break
            allowed_before = self._allowed
            stages[possible[0]]()
            if self._done:
                return
            if self._allowed is allowed_before:  # refused, or nothing to try
                del stages[possible[0]]
            elif self._allowed is not None and possible[0] in self._allowed:
                del stages[possible[0]]  # it was accepted: the same proof again would not help
        refused = ", ".join(self._refused) or "nothing"
        raise AuthError("; ".join([f"user {self._user} was refused, tried: {refused}", *self._problems]))

    def _try_keys(self, offers: list[Offer]) -> None:
        for offer in offers:
            if not self._try(offer.label, self._session.auth_publickey, offer.key):
                return

    def _try_password(self) -> None:
        if self._password is None:
            return
        if not self._trusted:
            self._problems.append("the password was not sent because the host key is unverified")
            self._password = None
            return
        if not self._password.reveal():
            return

        def send(user: str, password: str) -> list[str]:
            return self._session.auth_password(user, password, fallback=False)

        if self._try("password", send, self._password.reveal()):
            self._password = None  # it is wrong: not a second time, by another method

    def _try_answers(self) -> None:
        if self._password is None and self._question is None:
            return
        self._try("keyboard-interactive", self._session.auth_interactive, self._answers)

    def _answers(self, title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        """Called in paramiko's own thread; what is raised here ends the session, and is raised by `run`."""
        about = " ".join(visible(text.strip()) for text in (title, instructions) if text.strip())
        if len(self._prompts) + len(prompts) > _MOST_PROMPTS:
            raise AuthError("the host asks without end")
        return [self._answer(about, visible(text.strip()), hidden=not echo) for text, echo in prompts]

    def _answer(self, about: str, prompt: str, *, hidden: bool) -> str:
        shown = f"{about} {prompt}".strip()[:_LONGEST_PROMPT]
        if prompt in self._prompts:
            raise AuthError(f"user {self._user} was refused, the host did not take the answer to '{shown}'")
        self._prompts.append(prompt)
        if not self._trusted:
            raise AuthError(f"the host asks '{shown}', not answered because its host key is unverified")
        if self._password is not None and hidden and not _OTHER_SECRET.search(prompt):
            password, self._password = self._password.reveal(), None
            return password
        answer = None if self._question is None else self._question(shown)
        if answer is None:
            raise AuthError(f"the host asks '{shown}', and nobody answered (ask at a terminal)")
        return answer.reveal()

    def _try(self, label: str, method: Callable[[str, T], list[str]], proof: T) -> bool:
        """Whether it was refused, so that another of the kind may be tried; else see what is allowed."""
        try:
            wanted = method(self._user, proof)
        except paramiko.BadAuthenticationType as error:
            self._allowed = list(error.allowed_types)
            wanted = self._allowed or ["nothing"]
            self._refused.append(f"{label} (the host allows {visible(', '.join(wanted))})")
        except paramiko.AuthenticationException as error:
            self._refused.append(label)
            if not self._session.is_active():
                tried = ", ".join(self._refused)
                raise AuthError(f"the host ended the connection at user {self._user}, {tried}") from error
            return True
        else:
            self._done = not wanted
            if wanted:
                self._allowed = list(wanted)
                self._refused.append(f"{label} (accepted, but {visible(', '.join(wanted))} is wanted too)")
        return False
