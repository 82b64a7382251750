"""`--store`: the run on its way into the history, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fleetaudit.cli.configured import configured
from fleetaudit.cli.console import say
from fleetaudit.cli.evidence import Evidence
from fleetaudit.cli.options import Keeping
from fleetaudit.cli.outputs import Output
from fleetaudit.cli.state import state_directory
from fleetaudit.errors import ConfigError, Problem, ReportError, StoreError
from fleetaudit.history.place import StorePlace, store_place
from fleetaudit.judges import Judges
from fleetaudit.model import Report
from fleetaudit.rejudging import circumstances, inputs_of
from fleetaudit.report.base import Past
from fleetaudit.report.record import run_record, summary_record
from fleetaudit.summary import Tally


@dataclass(frozen=True, slots=True)
class History:
    """Where the run is to be kept; nowhere without a place."""

    place: StorePlace | None

    @contextmanager
    def keeping(
        self, report: Report, judges: Judges, tally: Tally, evidence: Evidence, *, inventory_given: bool
    ) -> Iterator[tuple[Report, list[ReportError]]]:
        """The report, recorded while its audits pass; afterwards the list holds what failed.

        What judged the run is recorded with it. The database library is imported here: who keeps no history
        does not wait for it.
        """
        failures: list[ReportError] = []
        place = self.place
        if place is None:
            yield report, failures
            return
        from fleetaudit.history.recording import Recorder  # noqa: PLC0415
        from fleetaudit.history.store import open_store  # noqa: PLC0415

        recorder = Recorder(
            lambda: open_store(place, create=True),
            report.run,
            inputs=inputs_of(judges),
            inventory_given=inventory_given,
        )
        yield replace(report, audits=recorder.over(report.audits)), failures
        summary = report.summary()
        recorder.finish(
            summary,
            {
                "run": run_record(report.run),
                "summary": summary_record(summary),
                "again": circumstances(judges, tally),
            },
            lambda previous: evidence.make(summary, previous),
        )
        if recorder.failure is not None:
            failures.append(ReportError(f"{recorder.failure}; this run is not in the history, or not whole"))

    def past(self, outputs: Sequence[Output]) -> Past | None:
        """What was kept before this run, if one of the outputs says what changed."""
        if self.place is None:
            return None
        from fleetaudit.cli.retrospect import past_now  # noqa: PLC0415  (see `keeping`)

        return past_now(self.place, outputs)

    def keep_signature(self, evidence: Evidence) -> list[ReportError]:
        """Keep the signature of the run's manifest, if there is one. Returns what failed."""
        if self.place is None or evidence.signature is None:
            return []
        from fleetaudit.history.recording import keep_signature  # noqa: PLC0415
        from fleetaudit.history.store import open_store  # noqa: PLC0415

        try:
            with open_store(self.place, create=False) as store:
                keep_signature(store, evidence.run.id, evidence.signature.decode())
        except StoreError as error:
            return [ReportError(f"{error}; the signature is not in the history")]
        return []


def history_of(store: str | None, state: str | None = None, *, no_store: bool = False) -> History:
    """What `--store` says, or else the configuration, unless `no_store`. Raises ConfigError.

    A store that does not answer is told before anybody is asked.
    It may answer by the time there is something to keep, and the reports do not depend on it.
    """
    if store is not None and no_store:
        raise ConfigError(Problem("--store and --no-store", hint="say one of them"))
    store = configured().store if store is None else store
    if store is None or no_store:
        return History(None)
    place = usual_place(store, state)
    from fleetaudit.history.store import open_store  # noqa: PLC0415  (see `keeping`)

    try:
        open_store(place, create=True, patience=5).close()
    except StoreError as error:
        say(f"warning: {error}; the run goes on, and tries again at its end")
    return History(place)


def usual_place(store: str, state: str | None) -> StorePlace:
    """What the text names; empty: the configured one, or else the file in the state directory.

    Raises ConfigError.
    """
    store = store or configured().store or ""
    return store_place(store, state_directory(Keeping(state, resume=None, retry_file=None, keep_runs=0)))
