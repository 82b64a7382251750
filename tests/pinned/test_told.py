"""What a pinned agent is told, how it takes it, and what of it comes back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit import __version__
from fleetaudit.agent.launch import AgentConversation, command, read_frame
from fleetaudit.agent.payload import AgentConfig
from fleetaudit.agent.pinned import executable, executable_sha256, pinned_command, staleness, tell
from fleetaudit.agent.told import LINE_LIMIT, check_told
from fleetaudit.conversation import Reply, Say, Stream
from fleetaudit.errors import BecomeError, ConfigError, InventoryError, OutputError
from fleetaudit.inventory import load
from fleetaudit.inventory.base import Overrides
from fleetaudit.model import PINNED_AGENT, Become, Host, Secret
from fleetaudit.session import Options
from tests.agent.looking import interpreters

NONCE = "n0nce-1"
HOST = Host("web1", "127.0.0.1", agent_path=PINNED_AGENT)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pinned") / "agent"
    file.write_bytes(executable())
    return file


def run(file: Path, told: bytes, *arguments: str, interpreter: str = sys.executable) -> Reply:
    line = [interpreter, "-IS", str(file), *arguments]
    done = subprocess.run(line, input=told, capture_output=True, timeout=60, check=False)
    return Reply(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("interpreter", interpreters())
def test_every_python_runs_the_file_and_it_knows_its_own_sha256(installed: Path, interpreter: str) -> None:
    reply = run(installed, tell(AgentConfig(NONCE, argv="none")), interpreter=interpreter)
    document = json.loads(read_frame(NONCE, reply))
    assert document["agent"]["sha256"] == executable_sha256()
    assert document["agent"]["version"] == __version__
    assert all("argv" not in process for process in document["processes"].values())
    assert staleness(HOST, document) is None


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (b"", "one line on stdin"),
        (b'{"nonce": "a"}', "one line on stdin"),
        (b'{"nonce": "a"}\n{"nonce": "a"}\n', "one line on stdin"),
        (b"[]\n", "no JSON object"),
        (b"3\n", "no JSON object"),
        (b'[["nonce", "a"]]\n', "no JSON object"),
        (b"[" * 3000 + b"\n", "no JSON object"),
        (b'{"nonce": "\xff"}\n', "no JSON object"),
        (b"import os\n", "no JSON object"),
        (b'{"nonce": "a", "nonce": "b"}\n', "each key once"),
        (b'{"nonce": "a", "sha256": "b"}\n', "an unknown key, 'sha256'"),
        (b'{"nonce": "a", "name": "b"}\n', "an unknown key, 'name'"),
        (b'{"nonce": "a b"}\n', "nonce"),
        (b'{"nonce": "a", "argv": "full"}\n', "argv: redacted or none"),
        (b'{"nonce": "a", "argv": ["none"]}\n', "argv: redacted or none"),
        (b'{"nonce": "a", "budget_mib": true}\n', "budget_mib"),
        (b'{"nonce": "a", "budget_seconds": NaN}\n', "budget_seconds"),
        (b'{"nonce": "a", "budget_seconds": 1e999}\n', "budget_seconds"),
        (b'{"nonce": "a", "max_output": 0}\n', "max_output"),
        (b'{"nonce": "' + b"a" * LINE_LIMIT + b'"}\n', f"longer than {LINE_LIMIT} bytes"),
    ],
)
def test_what_is_not_as_it_has_to_be_ends_it(installed: Path, told: bytes, said: str) -> None:
    reply = run(installed, told)
    assert (reply.exit_status, reply.stdout) == (2, b"")
    assert reply.stderr.decode().startswith("fleetaudit-agent: ")
    assert said in reply.stderr.decode()
    with pytest.raises(OutputError, match="exit status 2: fleetaudit-agent:"):
        read_frame(NONCE, reply)


def test_it_takes_no_arguments(installed: Path) -> None:
    reply = run(installed, tell(AgentConfig(NONCE)), "--help")
    assert reply.exit_status != 0
    assert (reply.stdout, reply.stderr) == (b"", b"fleetaudit-agent: it takes no arguments\n")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["nonce", "argv", "budget_seconds", "budget_mib", "max_output", "name", "FLEETAUDIT"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=4) | JSON)
def test_nothing_but_an_error_or_known_keys_comes_of_any_json(value: object) -> None:
    try:
        told = check_told(json.dumps(value).encode() + b"\n")
    except ValueError:
        return
    assert set(told) <= {"nonce", "argv", "budget_seconds", "budget_mib", "max_output"}
    assert told["nonce"]


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        AgentConfig,
        nonce=st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True),
        argv=st.sampled_from(["redacted", "none"]),
        budget_seconds=st.floats(0.1, 86_000),
        budget_mib=st.integers(64, 1 << 20),
        max_output=st.integers(1, 64 << 20),
    )
)
def test_whatever_the_controller_tells_is_taken(config: AgentConfig) -> None:
    told = check_told(tell(config))
    usual = AgentConfig(config.nonce)
    for name in ("nonce", "argv", "budget_seconds", "budget_mib", "max_output"):
        assert told.get(name, getattr(usual, name)) == getattr(config, name)


def test_one_who_says_nothing_keeps_no_process(tmp_path: Path) -> None:
    file = tmp_path / "agent"
    file.write_bytes(executable().replace(b"PATIENCE = 60", b"PATIENCE = 1"))
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-IS", str(file)], stdin=subprocess.PIPE) as process:
        assert process.wait(30) != 0
    assert time.monotonic() - began < 25


# ---------------------------------------------------------------- the controller


def test_no_code_and_no_password_goes_to_a_pinned_agent() -> None:
    host = replace(HOST, become=Become("sudo", "root", Secret("sesame")))
    talk = AgentConversation(host, NONCE, tell(AgentConfig(NONCE)))
    assert talk.start() == Say(b'{"nonce": "n0nce-1"}\n', eof=True)
    assert talk.heard(Stream.STDERR, b"[sudo] password: FLEETAUDIT-PASSWORD n0nce-1:") == Say()
    line = command(host, NONCE)
    assert f"exec env LC_ALL=C sudo -n -u root -- {PINNED_AGENT}" in line
    assert "python" not in line
    assert not set(line) & set("\n\\!`")


def test_only_what_can_run_it_alone_becomes_another_user() -> None:
    assert f"doas -n -u root {PINNED_AGENT}" in pinned_command(replace(HOST, become=Become("doas")), NONCE)
    with pytest.raises(BecomeError, match="su cannot run a pinned agent"):
        pinned_command(replace(HOST, become=Become("su")), NONCE)
    with pytest.raises(ValueError, match="no absolute path"):
        pinned_command(replace(HOST, agent_path="/x; reboot"), NONCE)


GOOD = {"schema": "fleetaudit.snapshot/1", "agent": {"version": __version__, "sha256": executable_sha256()}}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            GOOD | {"agent": {"version": "\x1b[2J"}},
            r"version \\u001b\[2J, not",
        ),
        (GOOD | {"agent": {"version": __version__}}, "sha256 is None"),
        (GOOD | {"agent": 3}, "version None"),
    ],
)
def test_another_agent_is_stale(document: dict[str, object], said: str) -> None:
    assert re.search(said, staleness(HOST, document) or "")
    assert staleness(replace(HOST, agent_path=None), document) is None


def test_the_interpreter_of_the_inventory_is_that_of_the_first_line() -> None:
    other = "/opt/python/bin/python3"
    document = GOOD | {"agent": {"version": __version__, "sha256": executable_sha256(other)}}
    assert staleness(HOST, document)
    assert staleness(replace(HOST, interpreter=other), document) is None


# ---------------------------------------------------------------- who is pinned


def agent_of(tmp_path: Path, variable: str, option: str | None) -> str | None:
    file = tmp_path / "inventory.yaml"
    file.write_text(f"all: {{hosts: {{web1: {{{variable}}}}}}}\n")
    overrides = Options(agent_path=option).overrides()
    return load([str(file)], home="/root", overrides=overrides).hosts[0].agent_path


@pytest.mark.parametrize(
    ("variable", "option", "path"),
    [
        ("", None, None),
        ("fleetaudit_agent: pinned", None, PINNED_AGENT),
        ("fleetaudit_agent: /opt/agent", "pinned", "/opt/agent"),
        ("fleetaudit_agent: sent", "pinned", None),
        ("", "pinned", PINNED_AGENT),
        ("", "/opt/agent", "/opt/agent"),
    ],
)
def test_the_inventory_says_who_is_pinned_before_the_option_does(
    tmp_path: Path, variable: str, option: str | None, path: str | None
) -> None:
    assert agent_of(tmp_path, variable, option) == path


@pytest.mark.parametrize("value", ["pined", "opt/agent", "'/opt/a b'", "[a]", "'/a/../b'", "''"])
def test_another_value_is_refused_where_it_stands(tmp_path: Path, value: str) -> None:
    with pytest.raises(InventoryError, match=r":1:.*fleetaudit_agent"):
        agent_of(tmp_path, f"fleetaudit_agent: {value}", None)


def test_an_option_that_is_no_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="agent_path"):
        Options(agent_path="agent")
    assert Overrides().agent_path is None
