"""Files that make an audit run again and again. Pure: nothing is installed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fleetaudit.schedule.base import Job, ScheduleFile, Scheduler
from fleetaudit.schedule.cron import Cron
from fleetaudit.schedule.k8s import K8S_DIRECTORY, Kubernetes
from fleetaudit.schedule.systemd import Systemd

__all__ = ["K8S_DIRECTORY", "SCHEDULERS", "Job", "ScheduleFile", "Scheduler"]

SCHEDULERS: Final[Mapping[str, Scheduler]] = MappingProxyType(
    {"systemd": Systemd(), "cron": Cron(), "k8s": Kubernetes()}
)
