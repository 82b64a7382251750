from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetaudit.agent.agent import redact, redact_urls, redact_words

CASES = [
    (["x", "--password=s3cret"], ["x", "--password=***"]),
    (["x", "--password", "s3cret", "next"], ["x", "--password", "***", "next"]),
    (["x", "--db-passwd", "-s3cret"], ["x", "--db-passwd", "***"]),
    (["x", "--no-password", "80"], ["x", "--no-password", "80"]),
    (["x", "--token", "--port", "80"], ["x", "--token", "--port", "80"]),
    (["x", "--api-key=k", "--key", "k"], ["x", "--api-key=***", "--key", "***"]),
    (["x", "--password-file=/etc/pw"], ["x", "--password-file=/etc/pw"]),
    (["java", "-Dspring.datasource.password=p"], ["java", "-Dspring.datasource.password=***"]),
    (["env", "DB_PASSWORD=p", "PORT=80"], ["env", "DB_PASSWORD=***", "PORT=80"]),
    (["x", "host=h password=p user=u"], ["x", "host=h password=*** user=u"]),
    (["x", '{"password": "p", "port": 1}'], ["x", '{"password": "***", "port": 1}']),
    (
        ["sh", "-c", "curl -H 'Authorization: Bearer abc.def' u"],
        ["sh", "-c", "curl -H 'Authorization: Bearer ***' u"],
    ),
    (["sh", "-c", "app --secret s --port 1"], ["sh", "-c", "app --secret *** --port 1"]),
    (["x", "postgres://u:p@db:5432/x?sslmode=on"], ["x", "postgres://***@db:5432/x?sslmode=on"]),
    (["x", "a=redis://:p@h/0,amqp://u:p@q"], ["x", "a=redis://***@h/0,amqp://***@q"]),
    (["x", "http://h/@me"], ["x", "http://h/@me"]),
    (["/usr/bin/mysql", "-ps3cret", "-p"], ["/usr/bin/mysql", "-p***", "-p"]),
    (["sshpass", "-p", "s3cret", "ssh"], ["sshpass", "-p", "***", "ssh"]),
    (["nginx", "-p", "/srv"], ["nginx", "-p", "/srv"]),
    (["x", "ghp_0123456789abcdef0123"], ["x", "***"]),
    (["x", "--arg=AKIAABCDEFGHIJKLMNOP"], ["x", "--arg=***"]),
    (["redis-server", "--requirepass", "p"], ["redis-server", "--requirepass", "***"]),
    (["python3", "app.py", "--port", "8080"], ["python3", "app.py", "--port", "8080"]),
    ([], []),
]


@pytest.mark.parametrize(("given_args", "shown"), CASES, ids=lambda value: " ".join(value)[:40])
def test_secrets_do_not_leave_the_host(given_args: list[str], shown: list[str]) -> None:
    assert redact(given_args) == shown


@given(st.lists(st.text(max_size=40), max_size=8))
def test_any_command_line_keeps_its_shape(args: list[str]) -> None:
    assert len(redact(args)) == len(args)


@given(st.text(alphabet="ab:/@?# \"'=-{},", max_size=60))
def test_what_has_no_secret_is_left_alone(arg: str) -> None:
    assert redact_words(arg) == arg
    if "@" not in arg:
        assert redact_urls(arg) == arg


@given(
    st.sampled_from(["--password", "--auth-token", "-Dx.secret", "API_KEY", "passphrase"]),
    st.text(alphabet="qwxyz0189./+", min_size=1, max_size=30),
)
def test_a_named_secret_never_shows(name: str, secret: str) -> None:
    marked = f"QQ{secret}QQ"
    for args in (
        ["x", f"{name}={marked}"],
        ["x", f"--opt {name}={marked}"],
        ["x", f'{{"{name}": "{marked}"}}'],
    ):
        assert marked not in " ".join(redact(args))
