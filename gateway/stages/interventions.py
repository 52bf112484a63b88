"""What people do to a series that went wrong, or that they want more of: the same for every way in which they ask.

Whatever is done stands in the timeline of the series with who did it, and in the audit trail. UIDs name the objects
there, never the patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy.engine

from gateway.domain.states import DELIVERY_ENDED, DeliveryState, JobState, SeriesState
from gateway.errors import ConfigurationError, NotDicom
from gateway.settings import Settings
from gateway.store import by_hand, deliveries, people, reports, reruns, routing, rulebook
from gateway.store.database import Database
from gateway.store.people import Somebody
from gateway.store.spool import Spool

Connection = sqlalchemy.engine.Connection
