"""Where the password for become comes from, and what is said when there is none to be had."""

from __future__ import annotations

import os
import shlex
import sys

import pytest

from fleetaudit.cli.passwords import BECOME_VARIABLE, become_password
from fleetaudit.errors import ConfigError


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


def test_nothing_said_is_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BECOME_VARIABLE, raising=False)
    assert become_password(ask=False, pass_command=None) is None


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
