"""Process: run a job's pipeline on its series and make the derived instances durable.

    claim (attempt counted) -> decode -> check -> infer -> encode, sync -> SUCCEEDED + deliveries

No transaction is open in between. Each step renews the lease by its progress: a worker that hangs loses the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gateway import logs, metrics
from gateway.dicom.decoder_process import DecoderProcess
from gateway.dicom.provenance import (
    digest_of,
    encoding_of,
    equipment_of,
    marks_of,
    require_fit,
    series_number_of,
)
from gateway.dicom.secondary_capture import derive_series
from gateway.dicom.volume import SourceSeries, read_series
from gateway.dicom.volume_inputs import on_one_grid
from gateway.domain.states import JobState
from gateway.errors import Unavailable, UnsuitableSeries
from gateway.killpoints import reached
from gateway.settings import Destination, Settings
from gateway.store import jobs
from gateway.store.database import Database
from gateway.store.directory import Directory
from gateway.store.jobs import Claim, ClaimedInput, DerivedFile
from gateway.store.spool import Spool
from pipelines.catalog import Catalog
from pipelines.errors import PipelineError, Unsuitable
from pipelines.spec import PipelineSpec

if TYPE_CHECKING:
    from pipelines.inference import Pipeline, Result

# how much of the whole each step is, for the progress that people see
_DECODED, _INFERRED = 0.2, 0.8
_RENEW_EVERY_S = 1.0

_NOWHERE = Destination(ae_title="NOWHERE", host="localhost", port=104)

log = logs.get("process")


def _by_role(claimed: Claim, spec: PipelineSpec) -> dict[str, ClaimedInput]:
    """The series of a job by the roles of its pipeline, in the order of the job."""
    if len(claimed.inputs) == len(spec.inputs) == 1:
        return {spec.inputs[0].role: claimed.inputs[0]}
    found, expected = sorted(one.role for one in claimed.inputs), sorted(one.role for one in spec.inputs)
    if found != expected:
        raise UnsuitableSeries(
            "roles", ", ".join(found) or "one series", ", ".join(expected),
            "the pipeline takes others than when the job was made; ask the rules again",
        )  # fmt: skip
    return {one.role: one for one in claimed.inputs}


def _given(claimed: Claim) -> dict[str, Any]:
    """What a result depends on besides its sources: the options, and which revision each further series was of."""
    return {**claimed.options, **{f"{one.role} revision": one.revision for one in claimed.inputs[1:]}}


class LeaseLost(Exception):  # noqa: N818 - the statement, not the suffix, says what it is
    """The job was taken back while we worked on it: stop, and write nothing more."""


class _Progress:
    """Renews the lease while work advances, and times each step."""

    def __init__(self, database: Database, claimed: Claim) -> None:
        self._database = database
        self._claimed = claimed
        self._renewed_at = time.monotonic()
        self.seconds: dict[str, float] = {}

    def __call__(self, progress: float) -> None:
        if time.monotonic() - self._renewed_at < _RENEW_EVERY_S:
            return
        with self._database.write() as connection:
            if not jobs.renew(connection, self._claimed, progress):
                raise LeaseLost
        self._renewed_at = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 4)
        metrics.PROCESS_STEP_S.labels(self._claimed.pipeline_id, name).observe(self.seconds[name])


@dataclass(frozen=True, slots=True)
class Process:
    """Runs jobs on one device. `load` gives the warm pipeline of a spec, `decoder` the pixels of compressed frames."""

    database: Database
    spool: Spool
    settings: Settings
    catalog: Catalog
    load: Callable[[PipelineSpec], Pipeline]
    owner: str
    decoder: DecoderProcess | None = None
    directory: Directory | None = None

    def __call__(self, job_id: str) -> None:
        """Claim a job and carry it to its end; does nothing when there is nothing to claim."""
        with self.database.write() as connection:
            claimed = jobs.claim(connection, job_id, self.owner, self.settings.process.lease_s)
        if claimed is None:
            return
        with logs.bind(job=job_id, series=claimed.series_id, attempt=claimed.attempt), metrics.timed("process"):
            reached("process.claimed")
            log.info("started", pipeline=claimed.pipeline_id, instances=sum(len(one.paths) for one in claimed.inputs))
            try:
                self._run(claimed)
            except (UnsuitableSeries, Unsuitable) as error:
                self._end(claimed, JobState.REFUSED, str(error))
            except PipelineError as error:
                self._end(claimed, JobState.FAILED, str(error))
            except LeaseLost:
                self.spool.remove_attempt(claimed.job_id, claimed.attempt)
                metrics.ATTEMPTS.labels("process", "lost").inc()
                log.warning("lease lost; nothing kept")
            except Unavailable:
                raise  # the database does not answer: the lease ends by itself
            except Exception as error:  # noqa: BLE001 - the edge of a job: whatever it was is kept and shown
                log.error("attempt failed", **logs.failure(error))
                with self.database.write() as connection:
                    jobs.fail_attempt(connection, claimed, logs.words_of(error))
                metrics.ATTEMPTS.labels("process", "broken").inc()

    def _run(self, claimed: Claim) -> None:
        spec = self.catalog[claimed.pipeline_id]
        progress = _Progress(self.database, claimed)
        with progress.step("decode"):
            sources = self._read(claimed, spec, progress)
            volumes = on_one_grid(sources)
        progress(_DECODED)
        with progress.step("load"):
            pipeline = self.load(spec)
        with progress.step("infer"):
            result = pipeline(
                volumes,
                lambda done, of: progress(_DECODED + (_INFERRED - _DECODED) * done / of),
            )
        reached("process.inferred")
        with progress.step("encode"):
            files, profiles = self._encode(claimed, spec, sources, result, progress)
        # before our own result is known: a crash after that would leave them for ever
        self.spool.remove_earlier_attempts(claimed.job_id, claimed.attempt)
        reached("process.output")
        with self.database.write() as connection:
            state = jobs.succeed(
                connection, claimed, files, profiles, give_up_s=self.settings.deliver.give_up_s,
                pipeline_version=spec.version, weights_sha256=spec.generator.sha256, seconds=progress.seconds,
            )  # fmt: skip
            is_kept = state is JobState.SUCCEEDED and jobs.is_kept(connection, claimed)
            reached("process.written")
        reached("process.committed")
        if state is None:
            raise LeaseLost
        if not is_kept:
            self.spool.remove_attempt(claimed.job_id, claimed.attempt)
        metrics.ATTEMPTS.labels("process", state.value.lower()).inc()
        log.info("ended", state=state.value, seconds=progress.seconds)

    def _read(self, claimed: Claim, spec: PipelineSpec, progress: _Progress) -> dict[str, SourceSeries]:
        """The series by role, the one that gives the grid first, each as the pipeline wants it."""
        by_role = _by_role(claimed, spec)
        sources: dict[str, SourceSeries] = {}
        for role, one in by_role.items():
            sources[role] = read_series(
                [self.spool.path(path) for path in one.paths],
                limit_bytes=self.settings.process.max_series_bytes,
                decoder=self.decoder,
            )
            require_fit(spec, sources[role], role)
            progress(_DECODED * len(sources) / len(by_role))
        return sources

    def _encode(
        self,
        claimed: Claim,
        spec: PipelineSpec,
        sources: Mapping[str, SourceSeries],
        result: Result,
        progress: _Progress,
    ) -> tuple[list[DerivedFile], dict[str, str]]:
        """The derived files of each profile, and the profile of each destination."""
        source, *others = sources.values()
        with self.database.read() as connection:
            number = jobs.free_series_number(
                connection, claimed, series_number_of(source),
                pipeline_version=spec.version, weights_sha256=spec.generator.sha256,
            )  # fmt: skip
        known = {name: self._destination(name) for name in claimed.destinations}
        # without a destination, or with one that the settings lost, the result is made all the same and kept
        encodings = {name: destination or _NOWHERE for name, destination in known.items()} or {"": _NOWHERE}
        wanted = {destination.profile: destination for destination in encodings.values()}
        profiles = {name: encodings[name].profile for name in claimed.destinations}
        files: list[DerivedFile] = []
        for done, (profile, destination) in enumerate(wanted.items()):
            instances = list(
                derive_series(
                    source, result.volume, marks_of(spec), encoding_of(destination, self.settings),
                    equipment_of(self.settings), uid_root=self.settings.node.uid_root,
                    revision=claimed.revision, options_digest=digest_of(_given(claimed)),
                    series_number=number, created=datetime.now(UTC).astimezone(), others=others,
                )
            )  # fmt: skip
            kept = self.spool.keep_derived(
                claimed.job_id, claimed.attempt, profile, ((i.sop_instance_uid, i.part10) for i in instances)
            )
            files += [
                DerivedFile(
                    profile, i.sop_instance_uid, i.sop_class_uid, i.series_instance_uid, number,
                    i.transfer_syntax_uid, i.instance_number, i.source_sop_instance_uid,
                    file.path, file.size_bytes, file.sha256,
                )
                for i, file in zip(instances, kept, strict=True)
            ]  # fmt: skip
            progress(_INFERRED + (1 - _INFERRED) * (done + 1) / len(wanted))
        return files, profiles

    def _destination(self, name: str) -> Destination | None:
        return self.directory.destination(name) if self.directory else self.settings.destinations.get(name)

    def _end(self, claimed: Claim, state: JobState, reason: str) -> None:
        with self.database.write() as connection:
            jobs.end(connection, claimed, state, reason)
        metrics.ATTEMPTS.labels("process", state.value.lower()).inc()
        log.warning("ended", state=state.value, reason=reason)
