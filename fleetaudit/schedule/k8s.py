"""A hardened CronJob for Kubernetes, and a volume for what lasts; fields of batch/v1 and v1, as of 1.27."""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath
from typing import Final

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.schedule.base import Job, ScheduleFile
from fleetaudit.schedule.cron import FIVE_FIELDS
from fleetaudit.yamlio import written

K8S_DIRECTORY: Final = "/etc/fleetaudit"
_STATE: Final = "/state"
_HOME: Final = "/home/fleetaudit"
_DAILY = "17 3 * * *"
_ID = 65532  # of a user that no image needs to know
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?\Z")  # a CronJob adds eleven characters of its own
_IMAGE = re.compile(
    r"[a-z0-9][A-Za-z0-9._/:-]{0,254}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})\Z"
)
_REMARK = """\
# The inventory and the policies, and who logs in, are made by hand, so that no key is in this file:
#   kubectl create configmap {name}-inventory --from-file=inventory.yaml
#   kubectl create configmap {name}-policies --from-file=policies/
#   kubectl create secret generic {name}-ssh --from-file=id_ed25519 --from-file=known_hosts
# The audit runs in {files}, where their files are inventory/ and policies/; {state} is kept.
# Exit codes: 0 compliant, 1 violations, 2 wrong input, 3 incomplete. All but 0 make the Job fail.
"""


class Kubernetes:
    """A CronJob and the claim of its volume."""

    def files(self, job: Job) -> tuple[ScheduleFile, ...]:
        """See `Scheduler`."""
        _check(job)
        documents = (_claim(job), _cron_job(job))
        remark = _REMARK.format(name=job.name, files=K8S_DIRECTORY, state=_STATE)
        return (ScheduleFile(f"{job.name}.k8s.yaml", remark + written(documents)),)


def _check(job: Job) -> None:
    if not _NAME.match(job.name):
        hint = "write a-z, 0-9 and -, a letter first, 52 at most"
        raise ConfigError(Problem(f"{job.name!r} is no name for a CronJob", hint=hint))
    if job.image is None or not _IMAGE.match(job.image):
        hint = "pass --image REGISTRY/NAME:TAG or @sha256:…, so that every run is of one version"
        raise ConfigError(Problem("a CronJob needs an image with a tag or a digest", hint=hint))
    if job.user is not None:
        hint = "leave it out: the container runs as an unprivileged user of its own"
        raise ConfigError(Problem("--user means nothing to Kubernetes", hint=hint))
    if job.when is not None and not FIVE_FIELDS.match(job.when):
        raise ConfigError(
            Problem(f"{job.when!r} is no time for a CronJob", hint="write five fields, such as '17 3 * * *'")
        )
    for path in filter(None, (job.state, *job.writes)):
        if not PurePosixPath(posixpath.normpath(path)).is_relative_to(_STATE):
            hint = f"write below {_STATE}, as in -o json={_STATE}/report.json"
            raise ConfigError(
                Problem(f"{path} is not kept: the container can only write {_STATE}", hint=hint)
            )


def _claim(job: Job) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"{job.name}-state"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def _cron_job(job: Job) -> dict[str, object]:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": job.name},
        "spec": {
            "schedule": job.when or _DAILY,
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 0,  # a violation is no reason to ask the fleet again
                    "activeDeadlineSeconds": 6 * 3600,
                    "template": {"spec": _pod(job)},
                }
            },
        },
    }


def _pod(job: Job) -> dict[str, object]:
    volumes: dict[str, dict[str, object]] = {
        "inventory": {"configMap": {"name": f"{job.name}-inventory"}},
        "policies": {"configMap": {"name": f"{job.name}-policies"}},
        "ssh": {"secret": {"secretName": f"{job.name}-ssh", "defaultMode": 0o440}},
        "state": {"persistentVolumeClaim": {"claimName": f"{job.name}-state"}},
        "tmp": {"emptyDir": {}},
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _ID,
            "runAsGroup": _ID,
            "fsGroup": _ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job)],
        "volumes": [{"name": name, **source} for name, source in volumes.items()],
    }


def _container(job: Job) -> dict[str, object]:
    kept = {"state": _STATE, "tmp": "/tmp"}  # noqa: S108  (the container's own)
    given = {name: f"{K8S_DIRECTORY}/{name}" for name in ("inventory", "policies")}
    mounts = {**given, "ssh": f"{_HOME}/.ssh", **kept}
    return {
        "name": "audit",
        "image": job.image,
        "command": [word.replace("$", "$$") for word in job.command],  # $(NAME) would be a variable
        "workingDir": job.directory,
        "env": [{"name": "HOME", "value": _HOME}, {"name": "XDG_STATE_HOME", "value": _STATE}],
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": name, "mountPath": path, "readOnly": name not in kept} for name, path in mounts.items()
        ],
    }
