"""What a scheduler reads from a schedule is what was written, and the shipped files are what is printed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.errors import ConfigError
from fleetaudit.schedule import SCHEDULERS, Job
from fleetaudit.schedule.systemd import quoted

ROOT = Path(__file__).parent.parent.parent
REPORT = "json=/var/lib/fleetaudit/report.json"
SHIPPED = Job(
    name="fleetaudit",
    command=(
        "/usr/local/bin/fleetaudit",
        "audit",
        "-i",
        "inventory.yaml",
        "-p",
        "policies",
        "-q",
        "-o",
        REPORT,
    ),
    directory="/etc/fleetaudit",
    writes=("/var/lib/fleetaudit",),
)
SPECIAL = st.sampled_from(" %$\\\"';&|`!*~#{}")
WORDS = st.lists(st.text(SPECIAL | st.characters(codec="utf-8", exclude_categories=("C", "Z"))))
TELL = "import json, os, sys; print(json.dumps([os.getcwd(), *sys.argv[1:]]))"


def cron_line(job: Job) -> str:
    """What cron hands to sh: a percent sign is one after a backslash, the remark and the time are gone."""
    (file,) = SCHEDULERS["cron"].files(job)
    (line,) = [line for line in file.text.split("\n") if line and not line.startswith("#")]
    command = line.split(" ", 5)[5]
    assert not re.search(r"(?<!\\)%", command), "a bare one would end the command"
    return command.replace(r"\%", "%")


def run(line: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    command = ["/bin/sh", "-c", line]
    return subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False
    )


@settings(max_examples=40, deadline=None)
@given(words=WORDS)
def test_what_cron_runs_gets_every_word_as_it_is(
    words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("a b%c'd").resolve()
    done = run(cron_line(Job("fleetaudit", (sys.executable, "-c", TELL, *words), str(folder))), folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [str(folder), *words]


def test_cron_leaves_a_run_out_while_another_is_at_work(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = run(cron_line(Job("fleetaudit", ("true",), "/", state=str(state))), tmp_path)
    assert (first.returncode, first.stderr, state.stat().st_mode & 0o777) == (0, "", 0o700)
    line = cron_line(Job("fleetaudit", ("false",), "/", state=str(state)))
    assert run(line, tmp_path).returncode == 1, "the audit's own exit code is cron's"
    busy = run(f"flock {shlex.quote(str(state / 'fleetaudit.lock'))} sh -c {shlex.quote(line)}", tmp_path)
    assert busy.returncode == 75
    assert busy.stderr == "fleetaudit: the run before is still at work, this one is left out\n"


def test_the_line_of_a_user_and_of_the_system() -> None:
    (own,) = SCHEDULERS["cron"].files(SHIPPED)
    (system,) = SCHEDULERS["cron"].files(Job("nightly", ("x",), "/", user="audit", when="@daily"))
    assert own.path == "a line for crontab -e"
    assert "\n17 3 * * * cd /etc/fleetaudit && " in own.text
    assert system.path == "/etc/cron.d/nightly"
    assert "\n@daily audit cd / && " in system.text


@pytest.mark.parametrize("when", [" ", "1 2 3", "* * * * * root", "@often", "1 2 3 4 5\n", "% * * * *\n*"])
def test_what_is_no_time_for_cron_is_refused(when: str) -> None:
    with pytest.raises(ConfigError, match="no time for cron"):
        SCHEDULERS["cron"].files(Job("fleetaudit", ("x",), "/", when=when))


def test_a_line_too_long_for_cron_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than the 998 that cron reads"):
        SCHEDULERS["cron"].files(Job("fleetaudit", ("x" * 900,), "/"))


def words_of(line: str) -> list[str]:
    """ExecStart= as systemd reads it: systemd.service(5) "Command lines", systemd.syntax(7) "Quoting"."""
    token = r'"(?:[^"\\]|\\["\\])*"|[^\s"\'\\]+'
    assert re.fullmatch(rf"(?:(?:{token})(?: |$))*", line), "nothing but whole words, quoted or plain"
    words = []
    for word in re.findall(token, line):
        bare = re.sub(r'\\(["\\])', r"\1", word[1:-1]) if word.startswith('"') else word
        assert re.fullmatch(r"(?:[^%$]|%%|\$\$)*", bare), "a specifier or a variable"
        words.append(bare.replace("%%", "%").replace("$$", "$"))
    return words


@given(words=WORDS)
def test_what_systemd_runs_gets_every_word_as_it_is(words: list[str]) -> None:
    line = " ".join(map(quoted, words))
    assert words_of(line) == words
    assert not re.search(r"(^| );( |$)", line), "a bare one would begin a second command"


def service_of(job: Job, folder: Path) -> Path:
    for file in SCHEDULERS["systemd"].files(job):
        (folder / Path(file.path).name).write_text(file.text)
    return folder / f"{job.name}.service"


@pytest.mark.parametrize("words", [("audit", "-i", "x"), ("a b", "50%", "$HOME", ";", "\\", "ü", "", "'")])
def test_systemd_finds_nothing_wrong(tmp_path: Path, words: tuple[str, ...]) -> None:
    job = Job(
        "nightly", (sys.executable, *words), "/srv/a b", when="Mon..Fri 03:00", writes=("/srv/out put",)
    )
    service = service_of(job, tmp_path)
    verify = ["systemd-analyze", "verify", str(service), str(service.with_suffix(".timer"))]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_service_is_hardened(tmp_path: Path) -> None:
    security = ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=15"]
    command = [*security, str(service_of(SHIPPED, tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-200:]


def test_a_state_directory_of_ones_own_is_written_to(tmp_path: Path) -> None:
    text = service_of(Job("nightly", ("x",), "/", state="/srv/state"), tmp_path).read_text()
    assert "ReadWritePaths=/srv/state\n" in text
    assert "StateDirectory=" not in text


@pytest.mark.parametrize("scheduler", ["cron", "systemd"])
def test_the_shipped_files_are_what_is_printed(scheduler: str) -> None:
    for file in SCHEDULERS[scheduler].files(SHIPPED):
        name = Path(file.path).name if scheduler == "systemd" else "fleetaudit.crontab"
        assert (ROOT / "deploy" / name).read_text() == file.text
