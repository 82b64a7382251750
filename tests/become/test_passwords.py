"""Where the password for become comes from, and what is said when there is none to be had."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from fleetaudit.cli.passwords import BECOME_VARIABLE, SSH_VARIABLE, Wanted, passwords
from fleetaudit.errors import ConfigError
from fleetaudit.model import Secret


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (SSH_VARIABLE, BECOME_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def become_password(*, ask: bool, pass_command: str | None) -> Secret | None:
    return passwords(Wanted(), Wanted(ask, pass_command))[1]


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def test_the_first_line_of_the_command_is_the_password() -> None:
    found = become_password(ask=False, pass_command=python("print('two words'); print('note')"))
    assert found is not None
    assert found.reveal() == "two words"


def test_no_shell_sees_the_command() -> None:
    found = become_password(ask=False, pass_command="printf %s '$HOME;`id`'")
    assert found is not None
    assert found.reveal() == "$HOME;`id`"


def test_the_variable_is_used_last_and_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BECOME_VARIABLE, "from outside")
    code = f"import os; print(os.environ.get({BECOME_VARIABLE!r}, 'not seen'))"
    found = become_password(ask=False, pass_command=python(code))
    assert found is not None
    assert found.reveal() == "not seen"
    monkeypatch.setenv(BECOME_VARIABLE, "from outside")
    found = become_password(ask=False, pass_command=None)
    assert found is not None
    assert found.reveal() == "from outside"
    assert BECOME_VARIABLE not in os.environ


def test_nothing_said_is_no_password() -> None:
    assert passwords(Wanted(), Wanted()) == (None, None)


def test_each_password_has_a_command_and_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SSH_VARIABLE, "ssh")
    monkeypatch.setenv(BECOME_VARIABLE, "become")
    assert passwords(Wanted(), Wanted()) == (Secret("ssh"), Secret("become"))
    monkeypatch.setenv(BECOME_VARIABLE, "become")
    code = f"import os; print(os.environ.get({BECOME_VARIABLE!r}, 'not seen'))"
    assert passwords(Wanted(command=python(code)), Wanted()) == (Secret("not seen"), Secret("become"))
    with pytest.raises(ConfigError, match=r"^--pass-command: it ended with status 3"):
        passwords(Wanted(command=python("raise SystemExit(3)")), Wanted())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (python("raise SystemExit(3)"), "ended with status 3"),
        (python("print()"), "empty"),
        (python("print('a' * 5000)"), "more than 4096 bytes"),
        (python("print('a\\0b')"), "empty or has more than one line"),
        (python("import sys; sys.stdout.buffer.write(bytes([255]))"), "not UTF-8"),
        ("/nonexistent/program", "No such file"),
        ("echo 'open", "No closing quotation"),
        ("", "is empty"),
    ],
)
def test_a_command_without_a_password_is_an_error_of_the_option(line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        become_password(ask=False, pass_command=line)
    assert "--become-pass-command" in str(caught.value)


def test_what_a_failing_command_printed_is_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys; print('s3cret'); print('vault sealed', file=sys.stderr); sys.exit(1)"
    with pytest.raises(ConfigError) as caught:
        become_password(ask=False, pass_command=python(code))
    assert "s3cret" not in str(caught.value)
    assert "vault sealed" in capfd.readouterr().err


def test_two_ways_at_once_contradict() -> None:
    with pytest.raises(ConfigError, match="contradict"):
        become_password(ask=True, pass_command="echo x")


@pytest.mark.parametrize("value", ["", "two\nlines"])
def test_a_variable_that_cannot_be_a_password(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(BECOME_VARIABLE, value)
    with pytest.raises(ConfigError, match=BECOME_VARIABLE) as caught:
        become_password(ask=False, pass_command=None)
    assert not value or value not in str(caught.value)


# ---------------------------------------------------------------- a keyring


STORED = {("fleet", "audit"): "hunter2", ("https://x:8", "me"): "other", ("empty", "me"): ""}


@pytest.fixture
def keyring() -> Iterator[ModuleType]:
    """The real library, with a store of ours."""
    library: ModuleType = pytest.importorskip("keyring", reason="the dev extra has it")
    backend = importlib.import_module("keyring.backend")

    class Store(backend.KeyringBackend):  # type: ignore[misc, name-defined]  # (known when it is imported)
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            if service == "locked":
                raise library.errors.KeyringLocked("it is locked\x1b[31m")
            return STORED.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            raise AssertionError("nothing is ever stored")

    before = library.get_keyring()
    library.set_keyring(Store())
    yield library
    library.set_keyring(before)


@pytest.mark.usefixtures("keyring")
def test_passwords_out_of_a_keyring() -> None:
    found = passwords(Wanted(keyring="https://x:8:me"), Wanted(keyring="fleet:audit"))
    assert found == (Secret("other"), Secret("hunter2"))


@pytest.mark.usefixtures("keyring")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fleet", "'fleet' is not SERVICE:USER"),
        (":audit", "is not SERVICE:USER"),
        ("fleet:", "is not SERVICE:USER"),
        ("fleet:nobody", "no password of 'nobody' for 'fleet' .keyring set fleet nobody"),
        ("locked:me", r"does not answer: it is locked\\u001b"),
        ("empty:me", "empty or has more than one line"),
    ],
)
def test_a_keyring_without_the_password(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        passwords(Wanted(), Wanted(keyring=name))
    assert str(caught.value).startswith("--become-pass-keyring: ")


@pytest.mark.usefixtures("keyring")
def test_a_machine_without_any_store_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    library = importlib.import_module("keyring")
    library.set_keyring(importlib.import_module("keyring.backends.fail").Keyring())
    with pytest.raises(ConfigError, match="No recommended backend was available"):
        passwords(Wanted(keyring="fleet:audit"), Wanted())


def test_where_the_library_is_missing_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigError, match=r"pip install 'fleetaudit\[keyring\]'"):
        passwords(Wanted(keyring="fleet:audit"), Wanted())


def test_all_ways_at_once_contradict() -> None:
    with pytest.raises(ConfigError, match=r"^-k and --pass-command and --pass-keyring contradict"):
        passwords(Wanted(True, "echo x", "a:b"), Wanted())
