"""How the settings make the two sides of storage commitment: for the SCP, and for the transfer worker."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.schedule import RetrySchedule
from gateway.network.commitment_in import Commitments
from gateway.network.destination import DestinationAddress
from gateway.settings import Destination, Peer, Settings
from gateway.stages.commit import Committer, Listener
from gateway.stages.deliver import entity_address
from gateway.stages.vouch import Reporter, Voucher
from gateway.store.database import Database
from gateway.store.spool import Spool


def commitments_of(settings: Settings, database: Database, spool: Spool) -> Commitments:
    """What the SCP does with requests and reports."""
    voucher = Voucher(database, spool, settings.deliver.give_up_s)
    return Commitments(voucher, Listener(database, _schedule(settings)))


def committer_of(settings: Settings, database: Database, owner: str) -> Committer:
    """Who asks destinations."""
    asked = {
        name: (_address(settings, destination), destination.commitment_timeout_s)
        for name, destination in settings.destinations.items()
        if destination.commitment
    }
    return Committer(database, asked, _schedule(settings), settings.deliver.lease_s, settings.node.uid_root, owner)


def reporter_of(settings: Settings, database: Database, spool: Spool) -> Reporter:
    """Who tells peers."""
    voucher = Voucher(database, spool, settings.deliver.give_up_s)
    return Reporter(voucher, _peers(settings), _schedule(settings), settings.deliver.lease_s)


def _peers(settings: Settings) -> Mapping[str, DestinationAddress]:
    """Addresses by AE title: destinations, and above them the peers, which were named for this."""
    entities: list[Destination | Peer] = [one for one in settings.destinations.values() if one.stow_url is None]
    entities += settings.peers.values()
    return {one.ae_title: _address(settings, one) for one in entities}


def _address(settings: Settings, entity: Destination | Peer) -> DestinationAddress:
    return entity_address(entity, settings.deliver, settings.node.ae_title)


def _schedule(settings: Settings) -> RetrySchedule:
    return RetrySchedule(settings.deliver.first_retry_s, settings.deliver.growth, settings.deliver.longest_retry_s)
