"""what people keep on the web port in their daily work"""

from alembic import op
import sqlalchemy as sa

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _indexes_up()
    _logins_up()
    _pipelines_up()
    _feedback_up()
    _alerts_up()
    _directory_up()


def downgrade() -> None:
    _directory_down()
    _alerts_down()
    _indexes_down()
    _logins_down()
    _pipelines_down()
    _feedback_down()


def _pipelines_up() -> None:
    op.create_table(
        "pipeline_switch",
        sa.Column("pipeline_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("disabled_by", sa.String(length=64), nullable=False),
        sa.Column("disabled_at", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pipeline_id", name=op.f("pk_pipeline_switch")),
    )
    op.create_table(
        "self_test",
        sa.Column("pipeline_id", sa.String(length=64), nullable=False),
        sa.Column("asked_by", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("worker", sa.String(length=128), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("outcome", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("pipeline_id", name=op.f("pk_self_test")),
    )
    op.create_index(op.f("ix_job_pipeline_id_created_at_state"), "job", ["pipeline_id", "created_at", "state"])


def _pipelines_down() -> None:
    op.drop_index(op.f("ix_job_pipeline_id_created_at_state"), table_name="job")
    op.drop_table("self_test")
    op.drop_table("pipeline_switch")


def _logins_up() -> None:
    op.add_column("person", sa.Column("issuer", sa.String(length=255), nullable=True))
    op.add_column("person", sa.Column("subject", sa.String(length=255), nullable=True))
    op.create_index(op.f("ix_person_issuer_subject"), "person", ["issuer", "subject"], unique=True)
    op.create_table(
        "login_attempt",
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("browser", sa.String(length=64), nullable=False),
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("verifier", sa.String(length=64), nullable=False),
        sa.Column("place", sa.String(length=2000), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("state", name=op.f("pk_login_attempt")),
    )
    op.create_index(op.f("ix_login_attempt_until"), "login_attempt", ["until"])


def _logins_down() -> None:
    op.drop_table("login_attempt")
    op.drop_index(op.f("ix_person_issuer_subject"), table_name="person")
    op.drop_column("person", "subject")
    op.drop_column("person", "issuer")


def _feedback_up() -> None:
    op.create_table(
        "reader_feedback",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("pipeline_id", sa.String(length=64), nullable=False),
        sa.Column("pipeline_version", sa.String(length=32), nullable=False),
        sa.Column("weights_sha256", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("slice", sa.Integer(), nullable=True),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reader_feedback")),
    )
    op.create_index(op.f("ix_reader_feedback_job_id"), "reader_feedback", ["job_id"])
    op.create_index(
        op.f("ix_reader_feedback_pipeline_id_pipeline_version_verdict"),
        "reader_feedback",
        ["pipeline_id", "pipeline_version", "verdict"],
    )


def _feedback_down() -> None:
    op.drop_table("reader_feedback")


# lists that are paged by key, and figures that are read from an index alone: new columns in the place of old ones
_INDEXES: tuple[tuple[str, list[str], list[str]], ...] = (
    ("instance", ["series_id", "received_at"], ["series_id"]),
    ("series", ["study_uid", "state", "calling_ae_title"], ["study_uid"]),
    ("series", ["purged_at", "last_received_at", "instances"], ["purged_at", "last_received_at"]),
    ("job", ["created_at", "id"], ["created_at"]),
    ("job", ["state", "created_at", "id"], []),
    ("job", ["state", "priority", "created_at", "id"], []),
    ("delivery", ["state", "created_at", "id"], []),
    ("delivery", ["destination", "state", "created_at", "id"], ["destination", "state"]),
    ("study", ["first_received_at", "uid"], []),
    ("audit", ["who", "id"], []),
)


def _indexes_up() -> None:
    for table, new, old in _INDEXES:
        op.create_index(_index_on(table, new), table, new)
        if old:
            op.drop_index(_index_on(table, old), table_name=table)


def _indexes_down() -> None:
    for table, new, old in _INDEXES:
        if old:
            op.create_index(_index_on(table, old), table, old)
        op.drop_index(_index_on(table, new), table_name=table)


def _index_on(table: str, columns: list[str]) -> str:
    return op.f("_".join(["ix", table, *columns]))


def _alerts_up() -> None:
    op.create_table(
        "alert",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("cause", sa.String(length=160), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("advice", sa.Text(), nullable=False),
        sa.Column("link", sa.String(length=255), nullable=False),
        sa.Column("first_at", sa.Float(), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("reminders", sa.Integer(), nullable=False),
        sa.Column("resolved_at", sa.Float(), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=64), nullable=True),
        sa.Column("acknowledged_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert")),
    )
    still_open = sa.text("resolved_at IS NULL")
    op.create_index(
        op.f("ix_alert_open_cause"), "alert", ["cause"], unique=True,
        sqlite_where=still_open, postgresql_where=still_open,
    )  # fmt: skip
    op.create_index(op.f("ix_alert_resolved_at"), "alert", ["resolved_at"])
    op.create_table(
        "alert_message",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("alert_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("change", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("sent_at", sa.Float(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alert.id"], name=op.f("fk_alert_message_alert_id_alert"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_message")),
        sa.UniqueConstraint("alert_id", "channel", "change", name=op.f("uq_alert_message_alert_id_channel_change")),
    )
    op.create_index(
        op.f("ix_alert_message_channel_ended_at_not_before"), "alert_message", ["channel", "ended_at", "not_before"]
    )


def _alerts_down() -> None:
    op.drop_table("alert_message")
    op.drop_table("alert")


def _directory_up() -> None:
    op.create_table(
        "directory_entry",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=True),
        sa.Column("author", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_directory_entry")),
        sa.UniqueConstraint("kind", "name", "version", name=op.f("uq_directory_entry_kind_name_version")),
    )


def _directory_down() -> None:
    op.drop_table("directory_entry")
