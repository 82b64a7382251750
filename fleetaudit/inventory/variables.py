"""Variables to what an inventory states about a host: the ones understood, refused and passed on to policies.

Names and their order (a later spelling wins) are those of ansible-core's ssh and sudo plugins
(https://docs.ansible.com/ansible/latest/collections/ansible/builtin/ssh_connection.html).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from fleetaudit import escalation, plugins
from fleetaudit.errors import Place, Problem
from fleetaudit.escalation import PASSWORDLESS
from fleetaudit.inventory import ssh_args
from fleetaudit.inventory.base import BECOME_METHODS, Mistake, Stated
from fleetaudit.inventory.tree import Member, Variable
from fleetaudit.model import AGENT_MODES, PINNED_AGENT, Boundary, Secret
from fleetaudit.text import plain_path, visible

T = TypeVar("T")

# In the order in which Ansible hands them to ssh, which takes the first value of an option.
_SSH_ARGS: Final = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "address": ("ansible_host", "ansible_ssh_host"),
    "port": ("ansible_port", "ansible_ssh_port"),
    "user": ("ansible_user", "ansible_ssh_user"),
    "password": ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password"),
    "private_key": ("ansible_private_key_file", "ansible_ssh_private_key_file"),
    "transport": ("ansible_connection", "fleetaudit_transport"),
    "become": ("ansible_become",),
    "become_method": ("ansible_become_method",),
    "interpreter": ("ansible_python_interpreter",),
    "boundary": ("fleetaudit_boundary",),
    "agent_path": ("fleetaudit_agent",),
    "agent_mode": ("fleetaudit_agent_mode",),
    "ssh_args": _SSH_ARGS,
    "policy_vars": ("policy_vars",),
}
# Ansible's become plugins read these names, then those with the method's own name in place of "become".
_BECOME: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("ansible_become_user",),
    "pass": ("ansible_become_password", "ansible_become_pass"),
    "exe": ("ansible_become_exe",),
    "flags": ("ansible_become_flags",),
}
_UNDERSTOOD: Final = frozenset(
    (
        *(name for names in _SPELLINGS.values() for name in names),
        *(name for names in _BECOME.values() for name in names),
        *(f"ansible_{method}_{what}" for method in BECOME_METHODS for what in _BECOME),
    )
)

# What the audit does anyway, or never uses: nothing is reached differently without it.
_HARMLESS: Final = frozenset(
    {
        "ansible_control_path",
        "ansible_control_path_dir",
        "ansible_doas_prompt_l10n",
        "ansible_shell_executable",
        "ansible_shell_type",
        "ansible_ssh_pipelining",
        "ansible_ssh_retries",
        "ansible_ssh_timeout",
        "ansible_ssh_transfer_method",
        "ansible_ssh_use_tty",
        "ansible_ssh_verbosity",
        "ansible_su_prompt_l10n",
    }
)
_REACHING: Final = re.compile(
    r"ansible_(?:ssh|sshpass|connection|paramiko|become|sudo|su|doas|run0|private_key|host_key|control|shell)(?:_|\Z)"
)
_TRANSPORTS: Final = {
    "ssh": "ssh",
    "paramiko": "ssh",
    "paramiko_ssh": "ssh",
    "smart": "ssh",
    "openssh": "openssh",
    "local": "local",
}
_COLLECTION: Final = re.compile(
    r"(?:ansible\.builtin|ansible\.netcommon|ansible\.legacy|community\.general)\."
)
# What Ansible takes for a bool: ansible/module_utils/parsing/convert_bool.py
_TRUE: Final = frozenset({"y", "yes", "on", "1", "true", "t"})
_FALSE: Final = frozenset({"n", "no", "off", "0", "false", "f"})
_OWN: Final = "fleetaudit_"
# Whoever still has these believes that hosts are asked with privileges.
_OLD: Final = {
    "ansible_sudo": "Ansible no longer reads it: write ansible_become",
    "ansible_su": "Ansible no longer reads it: write ansible_become, and ansible_become_method: su",
}
_OWN_NAMES: Final = tuple(sorted(name.removeprefix(_OWN) for name in _UNDERSTOOD if name.startswith(_OWN)))
_SECRET_WORD: Final = re.compile(
    r"(?:\A|_)(?:api)?(?:credentials?|key|pass|passphrase|passwd|password|private|pwd|secrets?|tokens?)(?:_|\Z)",
    re.IGNORECASE,
)
_TEMPLATE: Final = re.compile(r"\{[{%#]")
_NO_TEMPLATE: Final = "templates are not evaluated; write the value itself"


def secret_name(name: str) -> bool:
    """Whether the name speaks of a secret, so that the value is not to be shown."""
    return _SECRET_WORD.search(name) is not None


def is_read(name: str) -> bool:
    """Whether the variable is the inventory's own: how a host is reached, and what is audited there."""
    return name.startswith("ansible_") or name in _UNDERSTOOD


def state(member: Member, home: str, method: str = "sudo") -> tuple[Stated, tuple[Problem, ...]]:
    """What the host's merged variables say, and every mistake in them.

    `home` stands for ~ in key paths, `method` is how users are changed where no variable says it.
    """
    reader = _Reader(member)
    reader.refuse_what_reaches()
    boundary = reader.get("boundary", _one_of(tuple(boundary.value for boundary in Boundary)))
    way = reader.way()
    stated_method = reader.get("become_method", _method)
    become = reader.become(stated_method or method)
    stated = Stated(
        name=member.name,
        address=reader.get("address", _word),
        port=reader.get("port", _port),
        user=reader.get("user", _word),
        password=reader.get("password", _secret),
        private_key=reader.get("private_key", lambda value: _expand(_text(value), home)),
        transport=reader.get("transport", _transport),
        become=reader.get("become", _flag),
        become_method=stated_method,
        become_user=become.user,
        become_password=become.password,
        become_exe=become.exe,
        become_flags=become.flags,
        interpreter=reader.get("interpreter", _interpreter),
        boundary=Boundary(boundary) if boundary else None,
        jumps=way.jumps,
        proxy_command=way.proxy_command,
        agent_path=reader.get("agent_path", _agent),
        agent_mode=reader.get("agent_mode", _one_of(AGENT_MODES)),
        groups=member.groups,
        variables=reader.for_policies(),
        place=member.place,
    )
    return stated, tuple(reader.problems)


class _Becoming(NamedTuple):
    user: str | None
    password: Secret | None
    exe: str | None
    flags: tuple[str, ...]


class _Reader:
    """Reads one host's variables, noting every mistake."""

    def __init__(self, member: Member) -> None:
        self.problems: list[Problem] = []
        self._variables = member.variables

    def get(self, what: str, convert: Callable[[object], T]) -> T | None:
        """The value of the last spelling that is set, or None."""
        return self._last(_SPELLINGS[what], convert)

    def become(self, method: str) -> _Becoming:
        """How this method is used here. A password for a method that takes none is a mistake."""

        def last(what: str, convert: Callable[[object], T]) -> T | None:
            return self._last((*_BECOME[what], f"ansible_{method}_{what}"), convert)

        def no_secret(_: object) -> Secret:
            raise Mistake(
                f"{method} takes no password from here", "remove it, or set ansible_become_method: sudo"
            )

        return _Becoming(
            last("user", _word),
            last("pass", no_secret if method in PASSWORDLESS else _secret),
            last("exe", _program),
            last("flags", lambda value: _flags(method, value)) or (),
        )

    def _last(self, names: Sequence[str], convert: Callable[[object], T]) -> T | None:
        found: T | None = None
        for name in names:
            variable = self._variables.get(name)
            if variable is None or variable.value is None:
                continue
            try:
                _refuse_template(variable.value)
                found = convert(variable.value)
            except Mistake as mistake:
                self._note(name, variable.place, mistake)
        return found

    def way(self) -> ssh_args.Way:
        """How the host is reached, as the arguments for ssh say; the first that says something counts."""
        found = ssh_args.Way()
        for name in _SSH_ARGS:
            variable = self._variables.get(name)
            if variable is None or variable.value in (None, ""):
                continue
            try:
                _refuse_template(variable.value)
                told = ssh_args.way(_text(variable.value))
            except Mistake as mistake:
                self._note(name, variable.place, mistake)
            else:
                found = found if found != ssh_args.Way() else told
        return found

    def refuse_what_reaches(self) -> None:
        """Refuse what would change how the host is reached, were it supported."""
        for name, variable in self._variables.items():
            if variable.value in (None, "") or name in _UNDERSTOOD or name in _HARMLESS:
                continue
            if _REACHING.match(name):
                hint = "remove it here, or use the command line's option for it"
                if name.endswith("host_key_checking"):
                    hint = "remove it; host keys are checked, see --host-key-checking"
                message = f"{visible(name)} is not supported yet"
                if name in _OLD:
                    message, hint = f"{name} is not supported", _OLD[name]
                self.problems.append(Problem(message, variable.place, hint))
            elif name.startswith(_OWN):
                near = difflib.get_close_matches(name.removeprefix(_OWN), _OWN_NAMES, cutoff=0.75)
                if near:
                    message = f"{visible(name)} is not known"
                    self.problems.append(Problem(message, variable.place, f"did you mean {_OWN}{near[0]}?"))

    def for_policies(self) -> Mapping[str, object]:
        """The variables that policies may use, frozen; sorted by name."""
        listed = self.get("policy_vars", _names) or ()
        passed = {}
        for name, variable in sorted(self._variables.items()):
            if name in listed or (name.startswith(_OWN) and not _is_own_or_secret(name)):
                try:
                    _refuse_template(variable.value)
                except Mistake as mistake:
                    self._note(name, variable.place, mistake)
                passed[name] = _freeze(variable.value)
        return MappingProxyType(passed)

    def _note(self, name: str, place: Place, mistake: Mistake) -> None:
        self.problems.append(Problem(f"{visible(name)}: {mistake.message}", place, mistake.hint))


def _is_own_or_secret(name: str) -> bool:
    return name in _UNDERSTOOD or secret_name(name)


def _freeze(value: object) -> object:
    if isinstance(value, Mapping):
        return MappingProxyType({key: _freeze(inner) for key, inner in value.items()})
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


def _refuse_template(value: object) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_template(key)
            _refuse_template(inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_template(inner)
    elif isinstance(value, str) and _TEMPLATE.search(value):
        raise Mistake("the value is a template ({{ … }})", _NO_TEMPLATE)


# ---------------------------------------------------------------- values; a password is never repeated


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Mistake("the value is not text", "put it in quotes")
    if not value:
        raise Mistake("the value is empty", "write a value, or remove the variable")
    if not value.isprintable():
        raise Mistake("the value holds a control character", "remove it")
    return value


def _word(value: object) -> str:
    text = _text(value)
    if any(char.isspace() for char in text):
        raise Mistake(f"'{text}' holds a blank", "remove it")
    if text[0] == "-":
        # An ssh or sudo command line would read it as an option.
        raise Mistake(f"'{visible(text)}' begins with -", "remove the -")
    return text


def _secret(value: object) -> Secret:
    if not isinstance(value, str):
        raise Mistake("the value is not text", "put it in quotes")
    if not value or any(char in value for char in "\0\r\n"):
        raise Mistake("the password is empty or has more than one line", "write it on one line")
    return Secret(value)


def _port(value: object) -> int:
    text = str(value)
    if isinstance(value, bool | float) or not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
        raise Mistake(f"{_shown(value)} is not a port", "write a number from 1 to 65535")
    return int(text)


def _flag(value: object) -> bool:
    text = str(value).lower()
    if isinstance(value, list | dict | float) or text not in _TRUE | _FALSE:
        raise Mistake(f"{_shown(value)} is neither true nor false", "write true or false")
    return text in _TRUE


def _one_of(choices: tuple[str, ...]) -> Callable[[object], str]:
    def convert(value: object) -> str:
        if value not in choices:
            raise Mistake(f"{_shown(value)} is not known here", f"write {' or '.join(choices)}")
        return str(value)

    return convert


def _method(value: object) -> str:
    return _one_of(BECOME_METHODS)(_COLLECTION.sub("", _text(value), count=1))


def _program(value: object) -> str:
    try:
        return escalation.program(_text(value))
    except ValueError as error:
        raise Mistake(str(error), "write for example /usr/local/bin/sudo; flags have a variable") from None


def _flags(method: str, value: object) -> tuple[str, ...]:
    if value == "":
        return ()
    try:
        return escalation.flags(method, _text(value))
    except ValueError as error:
        raise Mistake(str(error), "remove it") from None


def _transport(value: object) -> str:
    name = _COLLECTION.sub("", _text(value), count=1)
    if name in _TRANSPORTS:
        return _TRANSPORTS[name]
    if name not in plugins.names(plugins.TRANSPORTS):
        raise Mistake(f"'{visible(name)}' connections are not supported", "write ssh, openssh or local")
    return name


def _expand(path: str, home: str) -> str:
    if path == "~" or path.startswith("~/"):
        return home + path[1:]
    if path.startswith("~"):
        raise Mistake(f"'{visible(path)}' names another user's home", "write the whole path")
    return path


def _interpreter(value: object) -> str | None:
    text = _word(value)
    return None if re.fullmatch(r"auto(?:_legacy)?(?:_silent)?", text) else text


def _agent(value: object) -> str:
    if value in ("sent", "pinned"):
        return PINNED_AGENT if value == "pinned" else ""
    try:
        return plain_path(_text(value))
    except ValueError as error:
        raise Mistake(str(error), "write sent, pinned, or the path of the agent there") from None


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise Mistake("not a list of variable names", "write for example [web_user, web_port]")
    for name in value:
        if name.startswith("ansible_"):
            raise Mistake(f"'{visible(name)}': ansible_ variables never leave the inventory", "remove it")
    return tuple(value)


def _shown(value: object) -> str:
    if isinstance(value, Variable | Mapping | list):
        return "the value"
    text = str(value).lower() if isinstance(value, bool) else visible(str(value))
    return f"'{text[:60]}'"
