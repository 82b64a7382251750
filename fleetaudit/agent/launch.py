"""How the agent is started on a host and how its answer is taken apart. Pure: no I/O here.

The host is not trusted: whatever it prints is bounded, checked against this run's nonce, and made visible
before a person sees it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex

from fleetaudit.agent.payload import check_nonce
from fleetaudit.agent.pinned import NO_AGENT, PINNED_MARK, pinned_command
from fleetaudit.conversation import Reply, Say, Stream
from fleetaudit.errors import BecomeError, ConnectError, HostError, InterpreterError, OutputError
from fleetaudit.model import Become, Host
from fleetaudit.text import visible

MAX_OUTPUT = 20 << 20
_MAX_NOISE = 1 << 20  # bytes of stderr, or of stdout before the agent was sent
_QUOTED = 300  # characters of a host's words in a message
_NO_INTERPRETER = "FLEETAUDIT-NO-INTERPRETER"
_READY = "FLEETAUDIT-READY"
_PROMPT = "FLEETAUDIT-PASSWORD"
_NEEDS_ROOT = "FLEETAUDIT-SU-NEEDS-ROOT"
_CANDIDATES = (
    "python3",
    *(f"python3.{minor}" for minor in range(14, 5, -1)),
    "/usr/libexec/platform-python",
    "python",
)
# Ansible's words for "find one"
_DISCOVER = frozenset({"auto", "auto_silent", "auto_legacy", "auto_legacy_silent"})
_USER = re.compile(r"[A-Za-z0-9_.#][A-Za-z0-9_.@\\$-]{0,255}")
_BEGIN = re.compile(rb"^FLEETAUDIT-BEGIN (\S{1,128}) ([0-9]{1,10}) ([0-9a-f]{64})\n", re.MULTILINE)
# sudo goes on to ask for a new password (plugins/sudoers/auth/pam.c), so it is not waited for.
_EXPIRED = (
    r"(password is expired|[Pp]assword expired|required to change your password)",
    "the password has expired: change it by hand",
)
_REFUSALS = (
    _EXPIRED,
    (
        r"account validation failure|[Aa]ccount expired",
        "the account is locked or has expired",
    ),
    (
        r"a (terminal|password) is required|no password was provided",
        "a password is needed and none was given",
    ),
    (r"incorrect password|Sorry, try again|Authentication failure", "the password is wrong"),
    (r"no tty present|must have a tty", "it insists on a terminal (requiretty)"),
    (r"not in the sudoers|is not allowed to (run|execute)|may not run sudo", "this user may not"),
    (
        r"doas: (Operation not permitted|Authorization (required|failed)|a tty is required)",
        "this user may not",
    ),
    (r"(sudo|doas|su)['\u2019]?: (unknown user|user \S+ does not exist)", "there is no such user"),
    (
        r"(sudo|doas|su)['\u2019]?: (command )?not found|(sudo|doas|su)['\u2019]: No such file",
        "it is not installed",
    ),
)


# ---------------------------------------------------------------- the command


def command(host: Host, nonce: str) -> str:
    """The command line for the host's login shell: find an interpreter, become the user, run what stdin says.

    Of a host with a pinned agent it is `pinned_command`: nothing that is sent there is run.
    It holds no newline, backslash or exclamation mark of ours, so that csh and fish read it as sh does.
    Raises BecomeError for a method or a user that cannot be used, ValueError for a nonce that `AgentConfig`
    would refuse.
    """
    check_nonce(nonce)
    if host.agent_path is not None:
        return pinned_command(host, nonce)
    probe = _probe(host.interpreter, nonce)
    if host.become is None:
        return f"sh -c {shlex.quote(probe)}"
    return f"sh -c {shlex.quote(_as_user(host.become, probe, nonce))}"


def _probe(interpreter: str | None, nonce: str) -> str:
    wanted = interpreter if interpreter and interpreter not in _DISCOVER else None
    candidates = " ".join(shlex.quote(name) for name in ([wanted] if wanted else _CANDIDATES))
    check = '"import sys; sys.exit(sys.version_info < (3, 6))"'
    return (
        f'for p in {candidates}; do if "$p" -I -S -c {check} </dev/null >/dev/null 2>&1; '
        f'then exec "$p" -I -S -; fi; done; echo {_NO_INTERPRETER} {nonce}; exit 127'
    )


def _as_user(become: Become, probe: str, nonce: str) -> str:
    if not _USER.fullmatch(become.user):
        raise BecomeError(f"not a user name: {visible(become.user)[:80]!r}")
    user = shlex.quote(become.user)
    if _asks_password(become):
        _check_password(become)
        probe = f"echo; echo {_READY} {nonce}; {probe}"
    inner = shlex.quote(probe)
    commands = {
        "sudo": f"exec env LC_ALL=C sudo -n -u {user} -- sh -c {inner}",
        "doas": f"exec doas -n -u {user} sh -c {inner}",
        # Anyone but root is asked for a password, which su takes from stdin, where the agent is.
        "su": f'if test "$(id -u)" = 0; then exec su -s /bin/sh -c {inner} {user}; fi; '
        f"echo {_NEEDS_ROOT} {nonce} >&2; exit 1",
    }
    if _asks_password(become):
        commands["sudo"] = f'exec env LC_ALL=C sudo -S -p "{_PROMPT} {nonce}:" -u {user} -- sh -c {inner}'
    if become.method not in commands:
        known = ", ".join(sorted(commands))
        raise BecomeError(f"unknown become method {visible(become.method)[:80]!r}; fleetaudit knows {known}")
    return f'if test "$(id -un)" = {user}; then {probe}; fi; {commands[become.method]}'


def _asks_password(become: Become | None) -> bool:
    """doas and su take a password from a terminal only: with them it is not used."""
    return become is not None and become.method == "sudo" and become.password is not None


def _check_password(become: Become) -> None:
    password = become.password.reveal() if become.password else ""
    if not password or any(char in password for char in "\r\n\0"):
        raise BecomeError("the become password is empty or has a line break in it")


# ---------------------------------------------------------------- the conversation


class AgentConversation:
    """Feeds the agent to the command that `command` made for the same host and nonce.

    With a sudo password it waits: the password goes out once, when sudo asks, and the agent only when the
    command says that it has become the user. So the password never reaches the agent's stdin.
    """

    def __init__(self, host: Host, nonce: str, payload: bytes, max_output: int = MAX_OUTPUT) -> None:
        pinned = host.agent_path is not None  # then no password is sent: it would be the agent's stdin
        become = host.become if _asks_password(host.become) and not pinned else None
        self._password = become.password if become else None
        self._payload = payload
        self._max_output = max_output
        self._prompt = f"{_PROMPT} {nonce}:".encode()
        self._ready = f"\n{_READY} {nonce}\n".encode()
        self._waiting = self._password is not None
        self._asked = False
        self._heard = {Stream.STDOUT: bytearray(), Stream.STDERR: bytearray()}
        self._sizes = {Stream.STDOUT: 0, Stream.STDERR: 0}

    def start(self) -> Say:
        """The agent at once, unless sudo may ask for a password first."""
        return Say() if self._waiting else Say(self._payload, eof=True)

    def heard(self, stream: Stream, data: bytes) -> Say:
        """Answers sudo's prompt and the ready mark. Raises OutputError when the host talks too much."""
        self._sizes[stream] += len(data)
        patient = stream is Stream.STDOUT and not self._waiting
        limit = self._max_output if patient else _MAX_NOISE
        if self._sizes[stream] > limit:
            raise OutputError(f"more than {limit} bytes on {stream.value}")
        if not self._waiting:
            return Say()
        self._heard[stream] += data
        if self._ready in b"\n" + self._heard[Stream.STDOUT]:
            self._waiting = False
            return Say(self._payload, eof=True)
        return self._answer_prompt()

    def _answer_prompt(self) -> Say:
        said = self._heard[Stream.STDERR]
        if self._asked and re.search(_EXPIRED[0].encode(), said):
            raise BecomeError(_EXPIRED[1])
        prompts = said.count(self._prompt)
        if prompts > 1:
            raise BecomeError("sudo: wrong password")
        if prompts == 0 or self._asked or self._password is None:
            return Say()
        self._asked = True
        return Say(self._password.reveal().encode() + b"\n")


# ---------------------------------------------------------------- the answer


def read_frame(nonce: str, reply: Reply) -> bytes:
    """The JSON inside the one frame of this run. Raises the HostError that says why there is none.

    Noise of login scripts around the frame is ignored; a second frame with our nonce is not.
    """
    if reply.exit_status < 0:
        raise ConnectError("connection lost before the agent had finished")
    frames = [found for found in _BEGIN.finditer(reply.stdout) if found[1] == nonce.encode()]
    if not frames:
        raise _why_no_frame(nonce, reply)
    body = _unpack(nonce, frames[0], reply.stdout)
    if len(frames) > 1:
        raise OutputError("more than one frame in the answer")
    if reply.exit_status != 0:
        raise OutputError(f"the agent ended with status {reply.exit_status}{_last_words(reply)}")
    if body.startswith(b'{"schema":"fleetaudit.agent-error/'):
        raise OutputError(f"the agent failed: {_agent_error(body)}")
    return body


def _unpack(nonce: str, found: re.Match[bytes], output: bytes) -> bytes:
    length, digest = int(found[2]), found[3].decode()
    body = output[found.end() : found.end() + length]
    if len(body) < length:
        raise OutputError(f"the answer is cut short: {len(body)} of {length} bytes")
    if hashlib.sha256(body).hexdigest() != digest:
        raise OutputError("the answer does not match its sha256")
    if not output.startswith(f"\nFLEETAUDIT-END {nonce}\n".encode(), found.end() + length):
        raise OutputError("the answer has no end mark")
    return body


def _agent_error(body: bytes) -> str:
    try:
        document = json.loads(body)
        return visible(f"{document['error']} in {document['where']}")[:_QUOTED]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "it sent an error that cannot be read"


def _why_no_frame(nonce: str, reply: Reply) -> HostError:
    if reply.exit_status == 127 and f"{_NO_INTERPRETER} {nonce}".encode() in reply.stdout:
        return InterpreterError("no Python >= 3.6 found (set ansible_python_interpreter to name one)")
    if f"{_NEEDS_ROOT} {nonce}".encode() in reply.stderr:
        return BecomeError(
            "su asks anyone but root for a password on a terminal: use sudo, or log in as root"
        )
    if pinned := _why_no_pinned(nonce, reply):
        return pinned
    said = reply.stderr.decode("utf-8", "replace")
    for pattern, reason in _REFUSALS:
        if re.search(pattern, said):
            return BecomeError(f"{reason}{_last_words(reply)}")
    if _BEGIN.search(reply.stdout):
        return OutputError("the answer belongs to another run (wrong nonce)")
    return OutputError(f"no answer from the agent, exit status {reply.exit_status}{_last_words(reply)}")


def _why_no_pinned(nonce: str, reply: Reply) -> HostError | None:
    """What is wrong where only a pinned agent may be run; None: something that any host may have."""
    missing = re.search(rf"^{NO_AGENT} {nonce} (/\S+)$".encode(), reply.stdout, re.MULTILINE)
    if missing:
        path = visible(missing[1].decode("ascii", "replace"))[:_QUOTED]
        return InterpreterError(
            f"the pinned agent {path} is not there, or not executable: `fleetaudit agent install` writes it"
        )
    begun = re.search(rf"^{PINNED_MARK} {nonce} (/\S+)$".encode(), reply.stderr, re.MULTILINE)
    if begun is None:
        return None
    path = visible(begun[1].decode("ascii", "replace"))[:_QUOTED]
    said = reply.stderr.decode("utf-8", "replace")
    if re.search(r"password is required|not allowed|may not run|Operation not permitted", said):
        return BecomeError(
            f"the rules there do not let {path} run as it is: another file than the digest in sudoers names, "
            f"another user, or no rule (see docs/least-privilege.md){_last_words(reply)}"
        )
    if reply.exit_status in (126, 127) or "unable to execute" in said:
        return InterpreterError(
            f"the interpreter in the first line of {path} does not start{_last_words(reply)}"
        )
    return None


def _last_words(reply: Reply) -> str:
    """The last line the command wrote to stderr, else stdout, for a message."""
    for output in (reply.stderr, reply.stdout):
        lines = [line.strip() for line in output[-4096:].decode("utf-8", "replace").splitlines()]
        said = [line for line in lines if line and not line.startswith(PINNED_MARK)]
        if said:
            return f": {visible(said[-1])[:_QUOTED]}"
    return ""
