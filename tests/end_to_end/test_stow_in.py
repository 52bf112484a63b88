"""A series that is stored over HTTP goes the same way as one that came by C-STORE; the sender is not ours."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from modality import MakeGateway, WritePhantom, made_from

from gateway.admin.senders import digest_of, new_token
from gateway.commands.sandbox import Sandbox, SmallPacs, free_port
from gateway.store.tables import instance

RULE = """
[[rules]]
name = "stir"
pipeline = "t2-to-stir"
destinations = ["pacs"]
when = { all = [{ attribute = "Modality", equals = "MR" }, { attribute = "calling_ae_title", equals = "SCANNER3" }] }
"""
TOKEN = new_token()


@pytest.fixture(scope="module")
def node(make_gateway: MakeGateway, pacs: SmallPacs) -> Sandbox:
    """A gateway with a web port and one sender."""
    return make_gateway(
        RULE,
        web={"enabled": True, "port": free_port(), "senders": {"SCANNER3": digest_of(TOKEN)}},
        destinations={"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}},
    )


def client(node: Sandbox, token: str = TOKEN) -> DICOMwebClient:
    url = f"http://127.0.0.1:{node.settings.web.port}/dicom-web"
    return DICOMwebClient(url, headers={"Authorization": f"Bearer {token}"})


def kept_data_sets(node: Sandbox) -> dict[str, bytes]:
    """Every stored instance by UID, as bytes behind its file meta."""
    database = node.database()
    with database.read() as connection:
        rows = connection.execute(instance.select()).all()
    database.close()
    return {row.sop_instance_uid: data_set_of(node.settings.spool_dir / row.path) for row in rows}


def data_set_of(file: Path) -> bytes:
    content = file.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def test_stored_over_http_processed_and_delivered(node: Sandbox, phantom: WritePhantom, pacs: SmallPacs) -> None:
    files = phantom(slices=6)
    sent = [pydicom.dcmread(file) for file in files]
    answer = client(node).store_instances(sent, sent[0].StudyInstanceUID)
    assert len(answer.ReferencedSOPSequence) == 6
    database = node.database()
    node.wait_until_finished(database, str(sent[0].SeriesInstanceUID), 90)
    database.close()
    assert len(made_from(files, pacs)) == 6
    kept = kept_data_sets(node)
    for file, ds in zip(files, sent, strict=True):
        assert kept[ds.SOPInstanceUID] == data_set_of(file)
    # the same again is a Success, and stored once
    assert len(client(node).store_instances(sent).ReferencedSOPSequence) == 6
    assert len(kept_data_sets(node)) == len(kept)


def test_an_instance_of_another_study_fails_by_itself(node: Sandbox, phantom: WritePhantom) -> None:
    mine, other = (pydicom.dcmread(phantom(slices=1)[0]) for _ in range(2))
    answer = client(node).store_instances([mine, other], mine.StudyInstanceUID)
    assert [one.ReferencedSOPInstanceUID for one in answer.ReferencedSOPSequence] == [mine.SOPInstanceUID]
    assert [(one.ReferencedSOPInstanceUID, one.FailureReason) for one in answer.FailedSOPSequence] == [
        (other.SOPInstanceUID, 0xA900)
    ]


def test_who_has_no_token_stores_nothing(node: Sandbox, phantom: WritePhantom) -> None:
    with pytest.raises(requests.HTTPError, match="401"):
        client(node, "wrong").store_instances([pydicom.dcmread(phantom(slices=1)[0])])
