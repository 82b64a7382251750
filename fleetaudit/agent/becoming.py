"""Command lines that become another user on a host, and what is understood of what sudo, doas and su say.

Pure. What is printed before the user has changed is the host's: nothing of it is run.
"""

from __future__ import annotations

import base64
import re
import shlex
import zlib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Final

from fleetaudit import escalation
from fleetaudit.agent.packing import strip
from fleetaudit.errors import BecomeError
from fleetaudit.model import Become
from fleetaudit.text import visible

# What stdin says, with the Python that was found: so many bytes and no more, since no end of file follows.
RUN: Final = 'exec "$p" -I -S -c "import sys;f=sys.stdin.buffer;exec(f.read(int(f.readline())))"'
READY: Final = "FLEETAUDIT-READY"
PROMPT: Final = "FLEETAUDIT-PASSWORD"
UNASKED: Final = "FLEETAUDIT-SU-UNASKED"
STUCK: Final = "FLEETAUDIT-STUCK"
ASKING: Final = "FLEETAUDIT-ASKING"
_PATIENCE = 20  # seconds until su or doas has asked or begun; PAM delays a refusal by 2

_USER: Final = re.compile(r"[A-Za-z0-9_.#][A-Za-z0-9_.@\\$-]{0,255}")
# sudo goes on to ask for a new password (plugins/sudoers/auth/pam.c), so it is not waited for.
EXPIRED: Final = (
    r"(password is expired|[Pp]assword expired|required to change your password)",
    "the password has expired: change it by hand",
)
_TOOL: Final = r"(sudo|doas|su|run0|env)['\u2019]?"
_REFUSALS: Final = (
    EXPIRED,
    (r"account validation failure|[Aa]ccount (has )?expired", "the account is locked or has expired"),
    (
        r"a (terminal|password) is required|no password was provided",
        "a password is needed and none was given",
    ),
    (r"doas: Authentication required", "a password is needed and none was given"),
    (
        r"incorrect (password|authentication)|Sorry, try again|Authentication fail(ure|ed)",
        "the password is wrong",
    ),
    (r"no tty present|must have a tty", "it insists on a terminal (requiretty)"),
    (
        r"Interactive authentication required|(run0|transient service unit):.*(Access|Permission) denied",
        "polkit does not let this user: run0 needs a rule there that asks for nothing",
    ),
    (r"not in the sudoers|is not allowed to (run|execute)|may not run sudo", "this user may not"),
    (r"su: (Permission denied|Access denied)", "this user may not"),
    (
        r"doas: (Operation not permitted|Authorization (required|failed)|a tty is required"
        r"|doas is not enabled)",
        "this user may not",
    ),
    (_TOOL + r": (unknown user|user \S+ does not exist)", "there is no such user"),
    (_TOOL + r": (\S+: )?((command )?not found|No such file)", "it is not installed"),
    (r"env: \S+ Permission denied", "this user may not start its program"),
)
# A prompt of somebody else's: the end of what was said, with no line feed after it.
_OTHER_PROMPT: Final = re.compile(rb"(?:\A|[\r\n])(?!(?:sudo|sudo-rs|env|sh):)([^\r\n]*[:?>]) ?\Z")
_PASSWORD_WORD: Final = re.compile(rb"password|passphrase|passwort|passwd", re.IGNORECASE)
_CODE_WORD: Final = re.compile(
    rb"verification|one.?time|\botp\b|\btoken\b|passcode|\bcode\b|\bpin\b|challenge|response", re.IGNORECASE
)


def asks_password(become: Become | None) -> bool:
    """Whether the command line for it waits for a password."""
    return become is not None and become.password is not None


def command_as(become: Become, start: str, with_python: Callable[[str], str], nonce: str) -> str:
    """The script for sh that becomes the user and does `start`.

    `with_python` makes a script of one that needs Python as "$p".
    Raises BecomeError for a method, a user, a program or flags that cannot be used.
    """
    check(become)
    if not asks_password(become):
        change = _without_password(become, start, nonce)
    elif become.method == "sudo":
        inner = f"echo; echo {READY} {nonce}; {start}"
        ask = f'-S -p "{PROMPT} {nonce}:"'
        line = f"{program_of(become)} {ask} {_as_user(become, inner)}"
        change = f"echo {ASKING} {nonce} >&2; exec env LC_ALL=C {line}"
    else:
        change = with_python(f'exec env LC_ALL=C "$p" -I -S -c {_relayed(become, start, nonce)}')
    there = f"echo; echo {READY} {nonce}; {start}" if asks_password(become) else start
    return f'if test "$(id -un)" = {shlex.quote(become.user)}; then {there}; fi; {change}'


def check(become: Become) -> None:
    """Raises BecomeError for what no command line can be made of."""
    if become.method not in escalation.METHODS:
        known = ", ".join(sorted(escalation.METHODS))
        raise BecomeError(f"unknown become method {visible(become.method)[:80]!r}; fleetaudit knows {known}")
    if not _USER.fullmatch(become.user):
        raise BecomeError(f"not a user name: {visible(become.user)[:80]!r}")
    try:
        if become.exe is not None:
            escalation.program(become.exe)
        escalation.flags(become.method, shlex.join(become.flags))
    except ValueError as error:
        raise BecomeError(f"{become.method}: {error}") from None
    if become.password is None:
        return
    if become.method in escalation.PASSWORDLESS:
        raise BecomeError(f"{become.method} takes no password from fleetaudit: leave it out, or use sudo")
    password = become.password.reveal()
    if not password or any(char in password for char in "\r\n\0"):
        raise BecomeError("the become password is empty or has a line break in it")
    if become.method != "sudo" and (len(password.encode()) > 1024 or re.search("[\x01-\x1f\x7f]", password)):
        # A terminal would take such a character for a command, such as "end of file".
        raise BecomeError(f"a password for {become.method} has up to 1,024 bytes and no control character")


def program_of(become: Become) -> str:
    """The program that changes the user, and the inventory's flags for it, as words for sh."""
    return shlex.join(
        [become.exe or become.method, *escalation.flags(become.method, shlex.join(become.flags))]
    )


def _as_user(become: Become, script: str) -> str:
    """The end of the program's command line: who, and what."""
    user, inner = shlex.quote(become.user), shlex.quote(script)
    return {
        "sudo": f"-u {user} -- sh -c {inner}",
        "doas": f"-u {user} sh -c {inner}",
        "su": f"-s /bin/sh -c {inner} {user}",
        "run0": f"--user={user} -- sh -c {inner}",
    }[become.method]


def _without_password(become: Become, start: str, nonce: str) -> str:
    run = f"{program_of(become)} {{}}{_as_user(become, start)}"
    if become.method == "su":
        # Anyone but root is asked for a password, which su would take from stdin, where the agent is.
        as_root = f"exec env LC_ALL=C {run.format('')}"
        return f'if test "$(id -u)" = 0; then {as_root}; fi; echo {UNASKED} {nonce} >&2; exit 1'
    # run0 hands its stdin, stdout and stderr on where they are no terminal.
    quiet = {"sudo": "-n ", "doas": "-n ", "run0": "--no-ask-password "}[become.method]
    return f"exec env LC_ALL=C {run.format(quiet)}"


def _relayed(become: Become, start: str, nonce: str) -> str:
    """Words after Python's -c: doas closes every fd beyond 2, and some su insist on a terminal as stdin."""
    on_terminal = become.method == "su"
    given = "exec <&9 9<&-; " if on_terminal else ""
    inner = f"{given}echo {READY} {nonce} >&2; echo; echo {READY} {nonce}; {start}"
    stdin = "tty" if on_terminal else "pipe"
    return (
        f"{shlex.quote(_relay())} {nonce} {_PATIENCE} {stdin} {program_of(become)} {_as_user(become, inner)}"
    )


@cache
def _relay() -> str:
    source = strip(files("fleetaudit.agent").joinpath("relay.py").read_text("ascii"))
    packed = base64.b64encode(zlib.compress(source.encode("ascii"), 9)).decode("ascii")
    return f'import base64,zlib;exec(zlib.decompress(base64.b64decode("{packed}")))'


# ---------------------------------------------------------------- what is said meanwhile


class Asked:
    """What a host says before it has become the user, and whether the password goes out for it.

    Raises BecomeError where waiting on would be in vain.
    """

    def __init__(self, method: str, nonce: str) -> None:
        self._method = method
        self._prompt = f"{PROMPT} {nonce}:".encode()
        self._asking = f"{ASKING} {nonce}\n".encode()
        self._stuck = f"{STUCK} {nonce}\n".encode()
        self._answered: int | None = None  # how much had been said then

    def wants_password(self, said: bytes) -> bool:
        """Whether the password is to be sent now: once, and never again. `said` is all of stderr so far."""
        if self._stuck in said:
            raise BecomeError(f"{self._method} neither asked for a password nor began{_quoted(said)}")
        if self._answered is not None and re.search(EXPIRED[0].encode(), said):
            raise BecomeError(EXPIRED[1])
        prompts = said.count(self._prompt)
        if prompts:
            self._refuse_code(said.split(self._prompt)[prompts - 1].rpartition(b"\n")[2])
        if prompts > 1:
            raise BecomeError(f"{self._method}: wrong password")
        if (prompts == 1 or self._others_prompt(said)) and self._answered is None:
            self._answered = len(said)
            return True
        return False

    def _refuse_code(self, prompt: bytes) -> None:
        if _CODE_WORD.search(prompt):
            words = visible(prompt.decode("utf-8", "replace").strip())[:200]
            raise BecomeError(f"{self._method} asks for something else than a password: {words}")

    def _others_prompt(self, said: bytes) -> bool:
        """Whether a PAM module asks in its own words for the password. sudo only: su and doas are relayed."""
        _, found, after = said.partition(self._asking)
        if not found:
            return False
        if self._answered is not None:
            after = said[self._answered :]
            if after.startswith(b"]"):  # the end of sudo-rs's prompt, which holds ours
                return False
        prompt = _OTHER_PROMPT.search(after)
        if prompt is None or self._prompt in prompt[1]:
            return False
        self._refuse_code(prompt[1])
        if not _PASSWORD_WORD.search(prompt[1]):
            words = visible(prompt[1].decode("utf-8", "replace"))[:200]
            raise BecomeError(f"sudo asks in words that do not speak of a password: {words}")
        if self._answered is not None:
            raise BecomeError("sudo: wrong password")
        return True


def _quoted(said: bytes) -> str:
    lines = [line.strip() for line in said[-4096:].decode("utf-8", "replace").splitlines()]
    words = [line for line in lines if line and not line.startswith("FLEETAUDIT-")]
    return f": {visible(words[-1])[:200]}" if words else ""


def refused(nonce: str, stderr: bytes) -> str | None:
    """Why the user could not be changed, as far as that is known."""
    if f"{UNASKED} {nonce}".encode() in stderr:
        return "su asks anyone but root for a password: give it one, use sudo, or log in as root"
    said = stderr.decode("utf-8", "replace")
    for pattern, reason in _REFUSALS:
        if re.search(pattern, said):
            return reason
    return None
