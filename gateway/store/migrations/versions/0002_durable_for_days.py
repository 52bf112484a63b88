"""refusals, commitment, hold and release, retention"""

from alembic import op
import sqlalchemy as sa

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _add_process()
    _add_destination()
    _add_refusals()
    _add_retention()
    _add_commitment()


def downgrade() -> None:
    op.drop_table("commitment")
    op.drop_table("delivery_commitment")
    _drop_process()
    op.drop_table("destination")
    _drop_retention()
    op.drop_table("refusal")


def _add_process() -> None:
    op.add_column("association", sa.Column("process", sa.String(length=128), nullable=True))
    op.create_index(op.f("ix_association_process"), "association", ["process"])


def _drop_process() -> None:
    op.drop_index(op.f("ix_association_process"), "association")
    op.drop_column("association", "process")


def _add_refusals() -> None:
    op.create_table(
        "refusal",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("called_ae_title", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.Float(), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refusal")),
        sa.UniqueConstraint(
            "address",
            "calling_ae_title",
            "called_ae_title",
            "reason",
            name=op.f("uq_refusal_address_calling_ae_title_called_ae_title_reason"),
        ),
    )
    op.create_index(op.f("ix_refusal_last_at"), "refusal", ["last_at"])


def _add_retention() -> None:
    op.add_column("series", sa.Column("purged_at", sa.Float(), nullable=True))
    op.create_index(op.f("ix_series_purged_at_last_received_at"), "series", ["purged_at", "last_received_at"])
    op.create_table(
        "removal",
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("modified_ns", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_removal")),
    )


def _drop_retention() -> None:
    op.drop_table("removal")
    op.drop_index(op.f("ix_series_purged_at_last_received_at"), "series")
    op.drop_column("series", "purged_at")


def _add_destination() -> None:
    op.create_table(
        "destination",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("held_at", sa.Float(), nullable=True),
        sa.Column("held_by", sa.String(length=64), nullable=True),
        sa.Column("hold_reason", sa.Text(), nullable=True),
        sa.Column("quiet_until", sa.Float(), nullable=True),
        sa.Column("down_since", sa.Float(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("suspect", sa.String(length=36), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_destination")),
    )


def _add_commitment() -> None:
    op.create_table(
        "delivery_commitment",
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("delivery_id", sa.String(length=36), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("accepted_at", sa.Float(), nullable=True),
        sa.Column("reported_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["delivery.id"],
            name=op.f("fk_delivery_commitment_delivery_id_delivery"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("transaction_uid", name=op.f("pk_delivery_commitment")),
    )
    op.create_index(op.f("ix_delivery_commitment_delivery_id"), "delivery_commitment", ["delivery_id"])
    op.create_table(
        "commitment",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("called_ae_title", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("instances", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("give_up_at", sa.Float(), nullable=False),
        sa.Column("not_held", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment")),
        sa.UniqueConstraint(
            "calling_ae_title", "transaction_uid", name=op.f("uq_commitment_calling_ae_title_transaction_uid")
        ),
    )
    op.create_index(op.f("ix_commitment_state_requested_at"), "commitment", ["state", "requested_at"])
