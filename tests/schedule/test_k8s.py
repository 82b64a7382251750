"""What Kubernetes reads from a CronJob is what was written, by Kubernetes' own schemas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.errors import ConfigError
from fleetaudit.schedule import K8S_DIRECTORY, SCHEDULERS, Job

IMAGE = "registry.example.net/fleetaudit:0.1.0"
SHIPPED = Job(
    name="fleetaudit",
    command=(
        *("fleetaudit", "audit", "-i", "inventory/inventory.yaml", "-p", "policies", "-q"),
        *("-o", "json=/state/report.json", "--store"),
    ),
    directory=K8S_DIRECTORY,
    writes=("/state",),
    image=IMAGE,
)
SPECIAL = st.sampled_from(" %$()\\\"';&|`!*~#{}:-")
WORDS = st.lists(st.text(SPECIAL | st.characters(codec="utf-8", exclude_categories=("C", "Z"))), max_size=5)
ROOT = Path(__file__).parent.parent.parent


def read(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    (file,) = SCHEDULERS["k8s"].files(job)
    claim, cron_job = yaml.safe_load_all(file.text)
    return claim, cron_job


def container(job: Job) -> dict[str, Any]:
    template = read(job)[1]["spec"]["jobTemplate"]["spec"]["template"]
    found: dict[str, Any] = template["spec"]["containers"][0]
    return found


def expanded(word: str) -> str:
    """As the kubelet reads a container's command (third_party/forked/golang/expansion), no variable set."""
    found, at = "", 0
    while at < len(word):
        pair = word[at : at + 2]
        assert pair != "$(", "a variable"
        found += "$" if pair == "$$" else word[at]
        at += 2 if pair == "$$" else 1
    return found


@pytest.mark.parametrize("version", ["1.27", "1.30", "1.34"])
def test_kubernetes_own_schemas_take_it(version: str) -> None:
    for document in read(SHIPPED):
        kubernetes_validate.validate(document, version, strict=True)
    broken = read(SHIPPED)[1]
    broken["spec"]["concurencyPolicy"] = broken["spec"].pop("concurrencyPolicy")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


@settings(max_examples=60, deadline=None)
@given(WORDS)
def test_every_word_arrives_as_it_is(words: list[str]) -> None:
    job = Job("fleetaudit", ("fleetaudit", "audit", *words), K8S_DIRECTORY, image=IMAGE)
    assert [expanded(word) for word in container(job)["command"]] == ["fleetaudit", "audit", *words]


def test_it_may_do_nothing_but_its_work() -> None:
    spec = read(SHIPPED)[1]["spec"]
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    held = container(SHIPPED)["securityContext"]
    assert held["readOnlyRootFilesystem"] is True
    assert held["allowPrivilegeEscalation"] is False
    assert held["capabilities"] == {"drop": ["ALL"]}
    writable = [it["mountPath"] for it in container(SHIPPED)["volumeMounts"] if not it["readOnly"]]
    assert writable == ["/state", "/tmp"]


def test_the_shipped_file_is_what_is_printed() -> None:
    (file,) = SCHEDULERS["k8s"].files(SHIPPED)
    assert (ROOT / "deploy" / file.path).read_text() == file.text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": None}, "tag or a digest.*pass --image"),
        ({"image": "fleetaudit"}, "tag or a digest"),
        ({"image": "x:1\n"}, "tag or a digest"),
        ({"name": "my_audit"}, "no name for a CronJob"),
        ({"name": "a" * 53}, "no name for a CronJob"),
        ({"user": "audit"}, "--user means nothing to Kubernetes"),
        ({"when": "@reboot"}, "no time for a CronJob"),
        ({"when": "17 3 * *"}, "no time for a CronJob"),
        ({"writes": ("/etc/fleetaudit",)}, "/etc/fleetaudit is not kept.*below /state"),
        ({"state": "/var/lib/x"}, "/var/lib/x is not kept"),
        ({"writes": ("/state/../etc",)}, "is not kept"),
    ],
)
def test_what_cannot_run_there_is_refused(changed: dict[str, Any], message: str) -> None:
    job = Job(**({"name": "fleetaudit", "command": ("x",), "directory": "/", "image": IMAGE} | changed))
    with pytest.raises(ConfigError, match=message):
        SCHEDULERS["k8s"].files(job)


def schedule(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleetaudit", "schedule", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


AUDIT = ("--", "-i", "inventory/inventory.yaml", "-p", "policies/", "-q")


def test_paths_are_those_of_the_container(tmp_path: Path) -> None:
    done = schedule("k8s", "--image", IMAGE, "--output", ".", *AUDIT, "--store", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    claim, cron_job = yaml.safe_load_all((tmp_path / "fleetaudit.k8s.yaml").read_text())
    assert claim["kind"] == "PersistentVolumeClaim"
    told = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert told["command"][:3] == ["fleetaudit", "audit", "-i"]
    assert str(tmp_path) not in (tmp_path / "fleetaudit.k8s.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("k8s", "--image", IMAGE, *AUDIT, "-o", "json=report.json"), "/etc/fleetaudit is not kept"),
        (("k8s", "--image", IMAGE, *AUDIT, "--store", "h.db"), "/etc/fleetaudit is not kept"),
        (("k8s", "--image", IMAGE, *AUDIT, "--manifest", "/etc/m.json"), "/etc is not kept"),
        (("k8s", "--image", IMAGE, "--", "--local", "-p", "policies/"), "--local cannot be scheduled"),
        (("cron", "--image", IMAGE, *AUDIT), "--image means nothing to cron"),
    ],
)
def test_what_would_fail_there_is_refused_here(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = schedule(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_files_of_a_config_map_are_read_once(tmp_path: Path) -> None:
    """They are links into a hidden folder that is exchanged as a whole."""
    (tmp_path / "..2026_11_24").mkdir()
    (tmp_path / "..data").symlink_to("..2026_11_24")
    source = (ROOT / "policies/no-shell-listeners.yaml").read_text()
    (tmp_path / "..2026_11_24" / "p.yaml").write_text(source)
    (tmp_path / "p.yaml").symlink_to("..data/p.yaml")
    command = [sys.executable, "-m", "fleetaudit", "policy", "lint", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
