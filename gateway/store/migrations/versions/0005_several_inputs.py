"""candidates and jobs of rules that take several series of a study"""

from alembic import op
import sqlalchemy as sa

revision = "0005"
down_revision = "0004"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ONE_SERIES = ["series_id", "revision", "rule_version_id"]


def upgrade() -> None:
    with op.batch_alter_table("job") as job:
        job.add_column(sa.Column("partners", sa.String(length=255), nullable=False, server_default=""))
        job.drop_constraint(_unique(_ONE_SERIES), type_="unique")
        job.create_unique_constraint(_unique([*_ONE_SERIES, "partners"]), [*_ONE_SERIES, "partners"])
    op.create_table(
        "job_input",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("series_id", _KEY, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "role", name=op.f("pk_job_input")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_input_job_id_job")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_job_input_series_id_series")),
    )
    op.create_index(op.f("ix_job_input_series_id"), "job_input", ["series_id"])
    _candidate_up()


def _candidate_up() -> None:
    op.create_table(
        "candidate",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("rule_version_id", _KEY, nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("series_id", _KEY, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("wait_limit_s", sa.Float(), nullable=False),
        sa.Column("give_up_at", sa.Float(), nullable=False),
        sa.Column("end", sa.String(length=16), nullable=True),
        sa.Column("missing", sa.Text(), nullable=True),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_candidate")),
        sa.ForeignKeyConstraint(
            ["rule_version_id"], ["rule_version.id"], name=op.f("fk_candidate_rule_version_id_rule_version")
        ),
        sa.ForeignKeyConstraint(["study_uid"], ["study.uid"], name=op.f("fk_candidate_study_uid_study")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_candidate_series_id_series")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_candidate_job_id_job")),
        sa.UniqueConstraint("rule_version_id", "series_id", name=op.f("uq_candidate_rule_version_id_series_id")),
    )
    op.create_index(op.f("ix_candidate_series_id"), "candidate", ["series_id"])
    op.create_index(op.f("ix_candidate_study_uid_rule_version_id"), "candidate", ["study_uid", "rule_version_id"])
    waits = sa.text('"end" IS NULL')
    op.create_index(
        op.f("ix_candidate_waiting"), "candidate", ["give_up_at"], sqlite_where=waits, postgresql_where=waits
    )


def downgrade() -> None:
    _forget_jobs_of_several_series()
    op.drop_table("candidate")
    op.drop_table("job_input")
    with op.batch_alter_table("job") as job:
        job.drop_constraint(_unique([*_ONE_SERIES, "partners"]), type_="unique")
        job.drop_column("partners")
        job.create_unique_constraint(_unique(_ONE_SERIES), _ONE_SERIES)


def _forget_jobs_of_several_series() -> None:
    """The earlier schema has no place for them, nor for a series that waits."""
    job, series = (
        sa.table("job", *_columns("id", "series_id", "partners")),
        sa.table("series", *_columns("id", "state")),
    )
    several = sa.select(job.c.id).where(job.c.partners != "")
    delivery = sa.table("delivery", *_columns("id", "job_id"))
    deliveries = sa.select(delivery.c.id).where(delivery.c.job_id.in_(several))
    for name in ("delivery_commitment", "delivery_instance"):
        of_delivery = sa.table(name, *_columns("delivery_id"))
        op.execute(sa.delete(of_delivery).where(of_delivery.c.delivery_id.in_(deliveries)))
    op.execute(sa.delete(sa.table("candidate")))
    op.execute(sa.delete(sa.table("job_input")))
    for name, key in (("delivery", "job_id"), ("derived", "job_id"), ("outbox", "subject")):
        of_job = sa.table(name, *_columns(key))
        op.execute(sa.delete(of_job).where(of_job.c[key].in_(several)))
    op.execute(sa.delete(job).where(job.c.partners != ""))
    without = sa.and_(series.c.state == "ROUTED", series.c.id.not_in(sa.select(job.c.series_id)))
    op.execute(sa.update(series).where(sa.or_(series.c.state == "WAITING", without)).values(state="UNMATCHED"))


def _columns(*names: str) -> list[sa.ColumnClause[object]]:
    return [sa.column(name) for name in names]


def _unique(columns: list[str]) -> str:
    return op.f("_".join(["uq_job", *columns]))
