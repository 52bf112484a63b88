"""The tables. Every time is seconds since the epoch, UTC; every path is relative to the spool.

association --< instance >-- series >-- study
rule_version --< job >-- series;  job --< job_input >-- series, when it has several
rule_version --< candidate >-- series
job --< derived;  job --< delivery --< delivery_instance >-- derived
outbox   work that waits to be announced or claimed
event    what happened, in order: the timeline of a series
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rows by itself only in an INTEGER primary key
Key: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")
Uid = String(64)
Title = String(16)

association = Table(
    "association",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("calling_ae_title", Title, nullable=False),
    Column("called_ae_title", Title, nullable=False),
    Column("address", String(64), nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("end", String(16)),  # released or aborted; aborted also when the SCP died with it
    Column("process", String(128), index=True),  # that accepted it
)

study = Table(
    "study",
    metadata,
    Column("uid", Uid, primary_key=True),
    Column("first_received_at", Float, nullable=False),
    Column("patient_id", String(64), nullable=False, index=True),
    Column("patient_name", String(324), nullable=False),
    Column("accession_number", String(16), nullable=False, index=True),
    Column("study_date", String(8), nullable=False),
    Column("study_description", String(64), nullable=False),
    Index(None, "first_received_at", "uid"),
)

series = Table(
    "series",
    metadata,
    Column("id", Key, primary_key=True),
    Column("uid", Uid, nullable=False, unique=True),
    Column("study_uid", Uid, ForeignKey("study.uid"), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("series_number", Integer),
    Column("series_description", String(64), nullable=False),
    Column("calling_ae_title", Title, nullable=False),
    Column("called_ae_title", Title, nullable=False),
    Column("address", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("first_received_at", Float, nullable=False),
    Column("last_received_at", Float, nullable=False),
    Column("judge_at", Float),  # when completeness is to be judged next; null once closed
    Column("waiting_for", Text),
    Column("completed_at", Float),
    Column("evidence", JSON),
    Column("reason", Text),  # why UNMATCHED or BLOCKED
    Column("selection", JSON),  # each rule tried, with a tick or a cross and the value found
    Column("attributes", JSON),  # header of one instance, DICOM JSON model
    Column("purged_at", Float),  # when its files were given up by retention; null again when a late instance comes
    Index(None, "state", "judge_at"),
    Index(None, "last_received_at"),
    Index(None, "purged_at", "last_received_at", "instances"),  # the last one: they are summed from the index alone
    Index(None, "study_uid", "state", "calling_ae_title"),
)

instance = Table(
    "instance",
    metadata,
    Column("id", Key, primary_key=True),
    Column("sop_instance_uid", Uid, nullable=False, unique=True),
    Column("sop_class_uid", Uid, nullable=False),
    Column("transfer_syntax_uid", Uid, nullable=False),
    Column("series_id", Key, ForeignKey("series.id"), nullable=False),
    Column("association_id", String(36), ForeignKey("association.id"), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("path", String(255), nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("instance_number", Integer),
    Column("number_of_frames", Integer, nullable=False),
    Column("acquisition_number", Integer),
    Column("orientation", JSON, nullable=False),  # six cosines, or none
    Column("slice_position_mm", Float),
    Column("images_in_acquisition", Integer),
    Index(None, "series_id", "received_at"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", Float, nullable=False, index=True),
    Column("status", Integer, nullable=False),  # the C-STORE status answered
    Column("reason", Text, nullable=False),
    Column("calling_ae_title", Title, nullable=False),
    Column("address", String(64), nullable=False),
    Column("path", String(255), index=True),  # null when there was no room for a copy
)

removal = Table(  # what lies in the spool still, though no row speaks of it any more: it is about to be deleted
    "removal",
    metadata,
    Column("path", String(255), primary_key=True),
    Column("modified_ns", BigInteger),  # of the file that is meant; null for a folder
    Column("at", Float, nullable=False),
)

refusal = Table(  # the latest 1,000
    "refusal",
    metadata,
    Column("id", Key, primary_key=True),
    Column("address", String(64), nullable=False),
    Column("calling_ae_title", Title, nullable=False),
    Column("called_ae_title", Title, nullable=False),
    Column("reason", String(64), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False, index=True),
    UniqueConstraint("address", "calling_ae_title", "called_ae_title", "reason"),
)

rule_version = Table(
    "rule_version",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("active", Boolean, nullable=False, index=True),
    Column("definition", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("author", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("name", "version"),
)

job = Table(
    "job",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("series_id", Key, ForeignKey("series.id"), nullable=False, index=True),  # on whose grid the result lies
    Column("revision", Integer, nullable=False),
    Column("partners", String(255), nullable=False, server_default=""),  # id:revision of its other series
    Column("rule_version_id", Key, ForeignKey("rule_version.id"), nullable=False),
    Column("pipeline_id", String(64), nullable=False),
    Column("options", JSON, nullable=False),
    Column("destinations", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("lease_owner", String(128)),
    Column("lease_until", Float),
    Column("not_before", Float, nullable=False),
    Column("progress", Float, nullable=False),  # 0 to 1
    Column("error", Text),
    Column("superseded", Boolean, nullable=False),  # a later revision of the series was routed
    Column("pipeline_version", String(32)),
    Column("weights_sha256", String(64)),
    Column("seconds", JSON),  # what each step of the last attempt took
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    UniqueConstraint("series_id", "revision", "rule_version_id", "partners"),
    Index(None, "state", "lease_until"),
    Index(None, "created_at", "id"),
    Index(None, "state", "created_at", "id"),
    Index(None, "state", "priority", "created_at", "id"),
    Index(None, "pipeline_id", "created_at", "state"),
)

job_input = Table(  # every series of a job with several; one with a single series has none
    "job_input",
    metadata,
    Column("job_id", String(36), ForeignKey("job.id"), primary_key=True),
    Column("role", String(64), primary_key=True),
    Column("series_id", Key, ForeignKey("series.id"), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
)

candidate = Table(  # a series that plays a role in a rule of several series
    "candidate",
    metadata,
    Column("id", Key, primary_key=True),
    Column("rule_version_id", Key, ForeignKey("rule_version.id"), nullable=False),
    Column("study_uid", Uid, ForeignKey("study.uid"), nullable=False),
    Column("series_id", Key, ForeignKey("series.id"), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("role", String(64), nullable=False),
    Column("wait_limit_s", Float, nullable=False),
    Column("give_up_at", Float, nullable=False),
    Column("end", String(16)),  # used, passed-over or gave-up; null while it waits
    Column("missing", Text),  # roles that were not filled when the rule gave up
    Column("job_id", String(36), ForeignKey("job.id")),  # the latest that it is used in
    UniqueConstraint("rule_version_id", "series_id"),
    Index(None, "study_uid", "rule_version_id"),
    Index(
        "ix_candidate_waiting", "give_up_at",
        sqlite_where=text('"end" IS NULL'), postgresql_where=text('"end" IS NULL'),
    ),
)  # fmt: skip

derived = Table(
    "derived",
    metadata,
    Column("id", Key, primary_key=True),
    Column("job_id", String(36), ForeignKey("job.id"), nullable=False, index=True),
    Column("profile", String(96), nullable=False),
    Column("sop_instance_uid", Uid, nullable=False),
    Column("sop_class_uid", Uid, nullable=False),
    Column("series_instance_uid", Uid, nullable=False, index=True),
    Column("series_number", Integer, nullable=False),
    Column("transfer_syntax_uid", Uid, nullable=False),
    Column("instance_number", Integer, nullable=False),
    Column("source_sop_instance_uid", Uid, nullable=False),
    Column("path", String(255), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    UniqueConstraint("sop_instance_uid", "profile"),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("job_id", String(36), ForeignKey("job.id"), nullable=False, index=True),
    Column("destination", String(64), nullable=False),
    Column("profile", String(96), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("lease_owner", String(128)),
    Column("lease_until", Float),
    Column("not_before", Float, nullable=False),
    Column("give_up_at", Float, nullable=False),
    Column("error", Text),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    UniqueConstraint("job_id", "destination"),
    Index(None, "state", "lease_until"),
    Index(None, "state", "created_at", "id"),
    Index(None, "destination", "state", "created_at", "id"),
)

delivery_instance = Table(
    "delivery_instance",
    metadata,
    Column("delivery_id", String(36), ForeignKey("delivery.id"), primary_key=True),
    Column("derived_id", Key, ForeignKey("derived.id"), primary_key=True),
    Column("status", Integer),  # the last C-STORE status; null until there is one
    Column("comment", Text),
    Column("accepted_at", Float),
)

destination = Table(  # what there is to say of a destination besides its settings; no row: nothing
    "destination",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("held_at", Float),  # an administrator holds it back
    Column("held_by", String(64)),
    Column("hold_reason", Text),
    Column("quiet_until", Float),  # the end of the quiet hours that its deliveries met
    Column("down_since", Float),  # the first attempt in a row in which it took nothing
    Column("failures", Integer, nullable=False),  # such attempts in a row
    Column("not_before", Float, nullable=False),  # while it is down: when one delivery tries again
    Column("suspect", String(36)),  # the only delivery that failed since then, if it was only one
    Column("error", Text),  # why it took nothing, the last time
)

delivery_commitment = Table(  # each time that a destination was asked to commit to a delivery
    "delivery_commitment",
    metadata,
    Column("transaction_uid", Uid, primary_key=True),
    Column("delivery_id", String(36), ForeignKey("delivery.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("asked_at", Float, nullable=False),
    Column("accepted_at", Float),  # the answer to N-ACTION; the report comes later
    Column("reported_at", Float),
)

commitment = Table(  # what peers asked us to commit to
    "commitment",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("transaction_uid", Uid, nullable=False),
    Column("calling_ae_title", Title, nullable=False),
    Column("called_ae_title", Title, nullable=False),
    Column("address", String(64), nullable=False),
    Column("instances", JSON, nullable=False),  # SOP Class UID and SOP Instance UID of each; none once it has ended
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),  # reports begun
    Column("lease_until", Float),  # by then whoever is reporting has ended, or died
    Column("not_before", Float, nullable=False),  # until then the association that brought it may report
    Column("requested_at", Float, nullable=False),
    Column("ended_at", Float),  # when it was reported or given up
    Column("give_up_at", Float, nullable=False),
    Column("not_held", Integer),  # instances that the report says are not here
    Column("error", Text),  # why the last report did not reach the peer
    UniqueConstraint("calling_ae_title", "transaction_uid"),
    Index(None, "state", "requested_at"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Key, primary_key=True),
    Column("stage", String(16), nullable=False),  # route, process or deliver
    Column("subject", String(36), nullable=False),  # the one id that the message carries
    Column("priority", Integer, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("published_at", Float),
    UniqueConstraint("stage", "subject"),
    Index(None, "published_at", "due_at"),
)

event = Table(
    "event",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", Float, nullable=False),
    Column("series_id", Key, ForeignKey("series.id"), nullable=False, index=True),
    Column("job_id", String(36)),
    Column("stage", String(16), nullable=False),
    Column("what", String(64), nullable=False),
    Column("detail", JSON, nullable=False),
)

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("process", String(128), primary_key=True),
    Column("at", Float, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("detail", JSON, nullable=False),
)

person = Table(
    "person",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("role", Title, nullable=False),
    Column("password_hash", String(256)),  # null when somebody else vouches for the person
    Column("active", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("last_login_at", Float),
    Column("failed_logins", Integer, nullable=False),  # since the last good one
    Column("locked_until", Float, nullable=False),
    Column("issuer", String(255)),  # the identity provider that vouches for the person, and its word for the person
    Column("subject", String(255)),
    Index("ix_person_issuer_subject", "issuer", "subject", unique=True),
)

login_attempt = Table(  # somebody is at the identity provider, or never came back
    "login_attempt",
    metadata,
    Column("state", String(64), primary_key=True),  # SHA-256
    Column("browser", String(64), nullable=False),  # SHA-256 of its cookie
    Column("nonce", String(64), nullable=False),
    Column("verifier", String(64), nullable=False),
    Column("place", String(2000), nullable=False),
    Column("until", Float, nullable=False, index=True),
)

web_session = Table(
    "web_session",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256 of what the cookie holds
    Column("person_id", Key, ForeignKey("person.id"), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(200), nullable=False),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("role", Title, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("used_at", Float),
    Column("revoked_at", Float),
)

audit = Table(  # rows are only ever added: triggers say so
    "audit",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", Float, nullable=False, index=True),
    Column("who", String(64), nullable=False),
    Column("role", Title, nullable=False),
    Column("address", String(64), nullable=False),
    Column("what", String(64), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("detail", JSON, nullable=False),
    Index(None, "who", "id"),
)

rule_draft = Table(
    "rule_draft",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
    Column("author", String(64), nullable=False),
    Column("saved_at", Float, nullable=False),
)

pipeline_switch = Table(  # the pipelines that somebody disabled; no row: enabled
    "pipeline_switch",
    metadata,
    Column("pipeline_id", String(64), primary_key=True),
    Column("version", String(32), nullable=False),  # that was installed then; the switch holds for every version
    Column("disabled_by", String(64), nullable=False),
    Column("disabled_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
)

self_test = Table(  # the latest self-test of each pipeline
    "self_test",
    metadata,
    Column("pipeline_id", String(64), primary_key=True),
    Column("asked_by", String(64), nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("worker", String(128)),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("outcome", JSON),  # version, device, seconds, whether it passed, and each step with what was found
)

reader_feedback = Table(  # what readers say of results; it outlasts the job, for it is about the model
    "reader_feedback",
    metadata,
    Column("id", Key, primary_key=True),
    Column("job_id", String(36), nullable=False, index=True),
    Column("pipeline_id", String(64), nullable=False),
    Column("pipeline_version", String(32), nullable=False),
    Column("weights_sha256", String(64), nullable=False),
    Column("verdict", Title, nullable=False),
    Column("words", Text, nullable=False),
    Column("slice", Integer),  # as the Compare page counts, from 1; null: the whole series
    Column("who", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Index(None, "pipeline_id", "pipeline_version", "verdict"),
)

alert = Table(  # one for each cause that needs a person
    "alert",
    metadata,
    Column("id", Key, primary_key=True),
    Column("cause", String(160), nullable=False),
    Column("severity", Title, nullable=False),
    Column("title", String(200), nullable=False),
    Column("advice", Text, nullable=False),
    Column("link", String(255), nullable=False),
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
    Column("times", BigInteger, nullable=False),  # series, jobs, deliveries or attempts that it is about
    Column("reminders", Integer, nullable=False),
    Column("resolved_at", Float, index=True),
    Column("acknowledged_by", String(64)),
    Column("acknowledged_at", Float),
    Index(
        "ix_alert_open_cause", "cause", unique=True,
        sqlite_where=text("resolved_at IS NULL"), postgresql_where=text("resolved_at IS NULL"),
    ),
)  # fmt: skip

alert_message = Table(  # what a channel was told of an alert, or is about to be told
    "alert_message",
    metadata,
    Column("id", Key, primary_key=True),
    Column("alert_id", Key, ForeignKey("alert.id", ondelete="CASCADE"), nullable=False),
    Column("channel", Title, nullable=False),
    Column("change", String(32), nullable=False),  # opened, resolved, or reminder and its number
    Column("created_at", Float, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("not_before", Float, nullable=False),  # until then it waits, or somebody sends it
    Column("ended_at", Float),  # sent, or given up
    Column("sent_at", Float),
    Column("error", Text),
    UniqueConstraint("alert_id", "channel", "change"),
    Index(None, "channel", "ended_at", "not_before"),
)

directory_entry = Table(  # senders and destinations besides those of the settings: rows are only added, the last counts
    "directory_entry",
    metadata,
    Column("id", Key, primary_key=True),
    Column("kind", Title, nullable=False),  # sender or destination
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("definition", JSON(none_as_null=True)),  # null: removed
    Column("author", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("kind", "name", "version"),
)
