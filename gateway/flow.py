"""The table of contents: the stages in their order, what starts each, and where it runs.

    modality --C-STORE--> receive --(clock)--> assemble --> route --> process --> deliver --C-STORE--> PACS
                          vouch                   (clock) sweep                   commit

receive runs in the SCP, assemble, sweep, retain and alert in the clock. vouch tells modalities, and commit asks
destinations, what is kept for good (storage commitment). The stages without a clock are started by the announcement of
a row of the outbox, on the queue of a kind of worker: what talks to a destination never keeps a generator waiting. The
self-test of a pipeline is started in the same way, where torch is.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.store.outbox import COMMIT, DELIVER, PROCESS, ROUTE, SELF_TEST, VOUCH

PROCESS_QUEUE = "process"  # one worker for each GPU, else one; the only process that loads torch
TRANSFER_QUEUE = "transfer"  # one worker with threads

QUEUE_OF: Mapping[str, str] = MappingProxyType(
    dict.fromkeys((PROCESS, SELF_TEST), PROCESS_QUEUE) | dict.fromkeys((ROUTE, DELIVER, COMMIT, VOUCH), TRANSFER_QUEUE)
)
