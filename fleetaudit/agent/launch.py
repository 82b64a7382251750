"""How the agent is started on a host and how its answer is taken apart. Pure: no I/O here.

The host is not trusted: whatever it prints is bounded, checked against this run's nonce, and made visible
before a person sees it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable

from fleetaudit.agent.becoming import (
    ASKING,
    PROMPT,
    READY,
    RUN,
    UNASKED,
    Asked,
    asks_password,
    command_as,
    refused,
)
from fleetaudit.agent.payload import check_nonce
from fleetaudit.agent.pinned import NO_AGENT, PINNED_MARK, pinned_command
from fleetaudit.conversation import Reply, Say, Stream
from fleetaudit.errors import BecomeError, ConnectError, HostError, InterpreterError, OutputError
from fleetaudit.model import Host
from fleetaudit.text import visible

MAX_OUTPUT = 20 << 20
_MAX_NOISE = 1 << 20  # bytes of stderr, or of stdout before the agent was sent
_QUOTED = 300  # characters of a host's words in a message
_NO_INTERPRETER = "FLEETAUDIT-NO-INTERPRETER"
_SH = "FLEETAUDIT-SH"
_END_OF_PAYLOAD = "#"
_MARKS = (PINNED_MARK, ASKING, PROMPT, READY, UNASKED, _SH)  # no words of the host's
_CANDIDATES = (
    "python3",
    *(f"python3.{minor}" for minor in range(14, 5, -1)),
    "/usr/libexec/platform-python",
    "python",
)
# Ansible's words for "find one"
_DISCOVER = frozenset({"auto", "auto_silent", "auto_legacy", "auto_legacy_silent"})
_BEGIN = re.compile(rb"^FLEETAUDIT-BEGIN (\S{1,128}) ([0-9]{1,10}) ([0-9a-f]{64})\n", re.MULTILINE)


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

    named = host.interpreter if host.interpreter not in _DISCOVER else None
    nothing = f"echo {_NO_INTERPRETER} {nonce}"
    start = _probe(named, RUN, f"{nothing}; exit 127" if named else _without_python(nonce))
    if host.become is not None:
        relayed = (
            f"{nothing} {host.become.method} with a password needs Python 3.6 there, or use sudo; exit 127"
        )
        start = command_as(host.become, start, lambda run: _probe(named, run, relayed), nonce)
    return f"sh -c {shlex.quote(start)}"


def _probe(named: str | None, run: str, otherwise: str) -> str:
    candidates = " ".join(shlex.quote(name) for name in ([named] if named else _CANDIDATES))
    check = '"import sys; sys.exit(sys.version_info < (3, 6))"'
    return (
        f'for p in {candidates}; do if "$p" -I -S -c {check} </dev/null >/dev/null 2>&1; '
        f"then {run}; fi; done; {otherwise}"
    )


def _without_python(nonce: str) -> str:
    """Say so, read past the agent that came in vain, and do what comes in its place, to the end of file."""
    nothing = f"echo {_NO_INTERPRETER} {nonce}"
    return (
        f"echo; echo {_SH} {nonce}; "
        f'until test "x$p" = "x{_END_OF_PAYLOAD}"; do read -r p || break; done; eval "$(cat)"; '
        f"command -v cat >/dev/null || {nothing} no Python 3.6 or later, and no cat; {nothing}; exit 127"
    )


# ---------------------------------------------------------------- the conversation


class AgentConversation:
    """Feeds the agent to the command that `command` made for the same host and nonce.

    With a become password it waits: the password goes out once, when it is asked for, and the agent only when
    the command says that it has become the user. So the password never reaches the agent's stdin.
    A host that says it has no Python is sent what `sh_payload` makes, once, if it is given.
    """

    def __init__(
        self,
        host: Host,
        nonce: str,
        payload: bytes,
        max_output: int = MAX_OUTPUT,
        *,
        sh_payload: Callable[[], bytes] | None = None,
    ) -> None:
        pinned = host.agent_path is not None  # then no password is sent: it would be the agent's stdin
        become = host.become if asks_password(host.become) and not pinned else None
        self._password = become.password if become else None
        self._agent = Say(payload if pinned else _measured(payload), eof=pinned or sh_payload is None)
        self._sh_payload = sh_payload
        self._without_python = f"\n{_SH} {nonce}\n".encode()
        self._last_heard = b"\n"  # of stdout, as much as the mark above may begin in
        self._max_output = max_output
        self._asked = Asked(become.method if become else "", nonce)
        self._ready = f"\n{READY} {nonce}\n".encode()
        self._waiting = self._password is not None
        self._heard = {Stream.STDOUT: bytearray(), Stream.STDERR: bytearray()}
        self._sizes = {Stream.STDOUT: 0, Stream.STDERR: 0}

    def start(self) -> Say:
        """The agent at once, unless a password may be asked for first."""
        return Say() if self._waiting else self._agent

    def heard(self, stream: Stream, data: bytes) -> Say:
        """Answers the prompt, the ready mark and the word that there is no Python.

        Raises OutputError when the host talks too much, BecomeError when it asks in vain.
        """
        self._sizes[stream] += len(data)
        patient = stream is Stream.STDOUT and not self._waiting
        limit = self._max_output if patient else _MAX_NOISE
        if self._sizes[stream] > limit:
            raise OutputError(f"more than {limit} bytes on {stream.value}")
        if not self._waiting:
            return self._instead(data) if stream is Stream.STDOUT else Say()
        self._heard[stream] += data
        _, ready, after = (b"\n" + self._heard[Stream.STDOUT]).partition(self._ready)
        if ready:
            self._waiting = False
            instead = self._instead(after)  # it may have come in one piece with the ready mark
            return Say(self._agent.data + instead.data, eof=self._agent.eof or instead.eof)
        if self._password and self._asked.wants_password(bytes(self._heard[Stream.STDERR])):
            return Say(self._password.reveal().encode() + b"\n")
        return Say()

    def _instead(self, data: bytes) -> Say:
        """What goes out in the agent's place, which ends stdin: at most once."""
        heard = self._last_heard + data
        self._last_heard = heard[1 - len(self._without_python) :]
        if self._sh_payload is None or self._without_python not in heard:
            return Say()
        return Say(self._sh_payload(), eof=True)


def _measured(payload: bytes) -> bytes:
    """With its length before it, and a line behind it by which a shell knows where it ended."""
    return b"%d\n%b\n%b\n" % (len(payload), payload, _END_OF_PAYLOAD.encode())


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
    without = re.search(rf"^{_NO_INTERPRETER} {nonce}(?: (.+))?$".encode(), reply.stdout, re.MULTILINE)
    if without and reply.exit_status == 127:
        lacking = visible((without[1] or b"").decode("ascii", "replace"))[:_QUOTED]
        lacking = lacking or "no Python >= 3.6 found"
        return InterpreterError(f"{lacking} (set ansible_python_interpreter to name one)")
    if pinned := _why_no_pinned(nonce, reply):
        return pinned
    if reason := refused(nonce, reply.stderr):
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
        said = [line for line in lines if line and not line.startswith(_MARKS)]
        if said:
            return f": {visible(said[-1])[:_QUOTED]}"
    return ""
