"""How the settings make the two sides of storage commitment: for the SCP, and for the transfer worker."""

from __future__ import annotations

from gateway.domain.schedule import RetrySchedule
from gateway.network.commitment_in import Commitments
from gateway.network.destination import DestinationAddress
from gateway.settings import Destination, Settings
from gateway.settings.line import Peer
from gateway.stages.commit import Committer, Listener
from gateway.stages.deliver import entity_address
from gateway.stages.vouch import Reporter, Voucher
from gateway.store.database import Database
from gateway.store.directory import Directory
from gateway.store.spool import Spool


def commitments_of(settings: Settings, database: Database, spool: Spool) -> Commitments:
    """What the SCP does with requests and reports."""
    voucher = Voucher(database, spool, settings.deliver.give_up_s)
    return Commitments(voucher, Listener(database, _schedule(settings)))


def committer_of(directory: Directory, database: Database, owner: str) -> Committer:
    """Who asks destinations."""
    settings = directory.file

    def asked(name: str) -> tuple[DestinationAddress, float] | None:
        destination = directory.destination(name)
        if destination is None or not destination.commitment:
            return None
        return _address(settings, destination), destination.commitment_timeout_s

    return Committer(database, asked, _schedule(settings), settings.deliver.lease_s, settings.node.uid_root, owner)


def reporter_of(directory: Directory, database: Database, spool: Spool) -> Reporter:
    """Who tells peers."""
    settings = directory.file
    voucher = Voucher(database, spool, settings.deliver.give_up_s)

    def address_of(ae_title: str) -> DestinationAddress | None:
        """Of a peer, which was named for this, or of a destination."""
        entities: list[Peer | Destination] = [*settings.peers.values()]
        entities += [one for one in directory.settings.destinations.values() if one.stow_url is None]
        return next((_address(settings, one) for one in entities if one.ae_title == ae_title), None)

    return Reporter(voucher, address_of, _schedule(settings), settings.deliver.lease_s)


def _address(settings: Settings, entity: Destination | Peer) -> DestinationAddress:
    return entity_address(entity, settings.deliver, settings.node.ae_title)


def _schedule(settings: Settings) -> RetrySchedule:
    return RetrySchedule(settings.deliver.first_retry_s, settings.deliver.growth, settings.deliver.longest_retry_s)
