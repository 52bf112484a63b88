"""what people keep on the web port in their daily work"""

from alembic import op
import sqlalchemy as sa

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _pipelines_up()


def downgrade() -> None:
    _pipelines_down()


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
