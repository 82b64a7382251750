"""Real sudo, doas and su, set up in the ways that keep a user out: each has its own message."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.become.once import alone

ALL = "USER ALL=(root) ALL\n"
DOAS = "permit USER as root\n"
CODE = "sed -i '1i auth required pam_google_authenticator.so' /etc/pam.d/"  # a second factor, asked for first
WHEEL = "sed -i '1i auth required pam_wheel.so' /etc/pam.d/su"
# With this locale gettext heeds LANGUAGE, and with C it does not.
GERMAN = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "LANGUAGE": "de"}
OTHER = "asks for something else than a password: Verification code"

CASES: Final[list[tuple[dict[str, Any], str]]] = [
    ({"rules": ALL}, "ok 0"),
    ({"rules": f"Defaults lecture=always\n{ALL}"}, "ok 0"),
    ({"rules": f'Defaults passprompt_override,passprompt="Custom %u: "\n{ALL}'}, "ok 0"),
    ({"rules": f'Defaults !passprompt_override,passprompt="Custom %u: "\n{ALL}'}, "ok 0"),
    ({"rules": f"Defaults use_pty,pwfeedback\n{ALL}"}, "ok 0"),
    ({"rules": ALL, "password": "wrong"}, "become_failed: sudo: wrong password"),
    ({"rules": ALL, "password": "wrong", "environment": GERMAN}, "become_failed: sudo: wrong password"),
    ({"rules": ALL, "password": None}, "become_failed: a password is needed and none was given"),
    ({"rules": ALL, "change": "chage -d 0 USER"}, "become_failed: the password has expired"),
    (
        {"rules": ALL, "change": "chage -E 2020-01-01 USER"},
        "become_failed: the account is locked or has expired",
    ),
    ({"rules": f"Defaults requiretty\n{ALL}"}, "become_failed: it insists on a terminal"),
    ({"rules": "USER ALL=(root) /bin/true\n"}, "become_failed: this user may not"),
    ({}, "become_failed: this user may not"),
    (
        {"rules": f"Defaults !passprompt_override\n{ALL}", "change": f"{CODE}sudo"},
        f"become_failed: sudo {OTHER}",
    ),
    ({"rules": ALL, "exe": "/usr/bin/sudo", "flags": ["-H", "-S", "-n", "-E"]}, "ok 0"),
    ({"exe": "/opt/no/such"}, "become_failed: it is not installed"),
    ({"exe": "/opt/no/such", "password": None}, "become_failed: it is not installed"),
    ({"method": "doas", "rules": DOAS}, "ok 0"),
    ({"method": "doas", "rules": DOAS, "exe": "/usr/bin/doas", "flags": ["-n"]}, "ok 0"),
    ({"method": "doas", "rules": "permit nopass USER as root\n"}, "ok 0"),
    ({"method": "doas", "rules": "permit nopass USER as root\n", "password": None}, "ok 0"),
    ({"method": "doas", "rules": DOAS, "password": "wrong"}, "become_failed: the password is wrong"),
    (
        {"method": "doas", "rules": DOAS, "password": None},
        "become_failed: a password is needed and none was given",
    ),
    ({"method": "doas", "rules": "permit root as root\n"}, "become_failed: this user may not"),
    ({"method": "doas", "exe": "/opt/no/such"}, "become_failed: it is not installed"),
    ({"method": "doas", "exe": "/opt/no/such", "password": None}, "become_failed: it is not installed"),
    ({"method": "su"}, "ok 0"),
    ({"method": "su", "exe": "/bin/su", "flags": ["-"]}, "ok 0"),
    ({"method": "su", "password": None}, "become_failed: su asks anyone but root for a password"),
    (
        {"method": "su", "password": "wrong", "environment": GERMAN},
        "become_failed: the password is wrong: su: Auth",
    ),
    ({"method": "su", "change": "chage -E 2020-01-01 root"}, "become_failed: the account is locked or has"),
    ({"method": "su", "change": WHEEL}, "become_failed: this user may not"),
    ({"method": "su", "change": f"{CODE}su"}, f"become_failed: su {OTHER}"),
    (
        {"method": "su", "change": f"{CODE}su".replace(".so", ".so echo_verification_code")},
        "become_failed: su neither asked for a password nor began: Verification code",
    ),
    ({"method": "su", "exe": "/opt/no/such"}, "become_failed: it is not installed"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    cases = json.dumps([case for case, _ in CASES])
    told = json.loads(alone(tmp_path_factory, "tests.become.refused", cases))
    assert isinstance(told, list)
    return told


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: json.dumps(CASES[index][0]))
def test_what_comes_of_it_is_told(found: list[str], index: int) -> None:
    assert found[index].startswith(CASES[index][1])
    assert "sesame" not in found[index]
