"""A program: the stages of a node, with its log on standard error, around series that hold what no log may.

    python logging_node.py FOLDER

Sends to a real storage SCP: a series that is routed and then refused by its pipeline, values that no attribute may
have, data sets that contradict their request, and bytes that are none. Prints what the database kept of the patient.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from pathlib import Path

import pydicom
import sqlalchemy as sa
from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag
from raw_store import encoded, store
from small_series import AXIAL, write_small_series

from gateway import logs
from gateway.dicom.provenance import own_identity
from gateway.domain.completeness import Policy
from gateway.domain.rule_tables import rule_from_table
from gateway.network.scp import ScpConfig, StorageScp
from gateway.network.scu import DestinationAddress, OutgoingInstance, send
from gateway.settings import Destination, Settings
from gateway.settings.line import Node
from gateway.stages.assemble import assemble
from gateway.stages.process import Process
from gateway.stages.receive import Receive
from gateway.stages.route import Route
from gateway.store import outbox, rulebook, tables
from gateway.store.database import Database
from gateway.store.recorder import Recorder
from gateway.store.spool import Spool
from pipelines.catalog import Catalog

PATIENT = {
    "PatientName": "Zyxwvut^Quentin",
    "PatientID": "PID-47Z11-SECRET",
    "PatientBirthDate": "19610523",
    "AccessionNumber": "ACC-08Z15-SECRET",
    "ReferringPhysicianName": "Physician^Refers",
}
RULE = {
    "name": "stir",
    "pipeline": "t2-to-stir",
    "destinations": ["pacs"],
    "when": {"all": [{"attribute": "Modality", "equals": "MR"}, {"attribute": "RepetitionTime", "greater": 1}]},
}
# what software upstream mixes up: the patient where a number, a date or a UID belongs
MIXED_UP = {
    "PatientBirthDate": b"Zyxwvut ",
    "InstanceNumber": b"PID-47Z11-SECRET",
    "SeriesNumber": b"ACC-08Z15-SECRET",
    "ImagePositionPatient": b"Zyxwvut\\Zyxwvut\\Quentin ",
    "ImageOrientationPatient": b"PID-47Z11-SECRET",
    "RepetitionTime": b"PID-47Z11-SECRET",
    "SOPInstanceUID": b"PID-47Z11-SECRET",
    "SOPClassUID": b"ACC-08Z15-SECRET",
    "SeriesInstanceUID": b"Zyxwvut^Quentin\0",
    "StudyInstanceUID": b"PID-47Z11-SECRET",
    "StudyDate": b"Zyxwvut ",
    "PatientName": b"Zyxwvut^Quentin " * 40,
    "Rows": b"PID-47Z11-SECRET",
    "EchoTime": b"Zyxwvut^Quentin ",
}


def main(folder: Path) -> None:
    logs.set_up("json", process="stages")
    settings = Settings(
        node=Node(state_dir=folder), destinations={"pacs": Destination(ae_title="PACS", host="127.0.0.1", port=1)}
    )
    database = Database(settings.database_url)
    database.upgrade()
    with database.write() as connection:
        rulebook.apply(connection, [rule_from_table(RULE, "test")], author="test", reason="")
    spool = Spool(settings.spool_dir, "scp")
    with Recorder(database, spool, judge_after_s=0.0) as recorder:
        scp = StorageScp(ScpConfig(ae_title="ATHANOR", port=0), Receive(spool, recorder))
        scp.start()
        try:
            send_everything(folder, scp.port)
        finally:
            scp.stop(5.0)
    receiving = sa.select(sa.func.count()).select_from(tables.series).where(tables.series.c.state == "RECEIVING")
    until = time.monotonic() + 20
    while scalar(database, receiving):
        assemble(database, Policy(0.05, 0.05, 0.1))
        assert time.monotonic() < until, "a series stays open"
        time.sleep(0.01)
    route = Route(database, spool, own_identity(settings), settings.models_dir, max_attempts=1)
    for subject in waiting(database, outbox.ROUTE):
        route(subject)
    process = Process(database, spool, settings, Catalog.read(settings.models_dir), refuse_to_load, "process-0")
    for subject in waiting(database, outbox.PROCESS):
        process(subject)
    fail_elsewhere()
    for column in (tables.study.c.patient_name, tables.study.c.patient_id):
        sys.stdout.write(f"{scalar(database, sa.select(sa.func.group_concat(column)))}\n")


def send_everything(folder: Path, port: int) -> None:
    whole = write_small_series(folder / "sent" / "whole", 1, 3, direction=AXIAL, **PATIENT)
    address = DestinationAddress("ATHANOR", "127.0.0.1", port, "SCANNER")
    assert send(address, [OutgoingInstance.read(path) for path in whole], lambda *_: None).is_delivered
    for number, (keyword, value) in enumerate(MIXED_UP.items(), 2):
        (path,) = write_small_series(folder / "sent" / str(number), number, 1, **PATIENT)
        uid = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        store(port, with_raw_value(encoded(path), keyword, value), uid)
    (path,) = write_small_series(folder / "sent" / "cut", 90, 1, **PATIENT)
    store(port, encoded(path)[:-1000], "1.2.3")
    store(port, "".join(PATIENT.values()).encode(), "1.2.4")
    # the same instance with other bytes is kept beside the first
    uid = str(pydicom.dcmread(whole[0], stop_before_pixels=True).SOPInstanceUID)
    store(port, encoded(whole[0], ImageComments="Zyxwvut"), uid)


def with_raw_value(data_set: bytes, keyword: str, value: bytes) -> bytes:
    """The data set, in Explicit VR Little Endian, with these bytes as the value of one element."""
    tag = Tag(keyword)
    head = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + dictionary_VR(tag).encode()
    element = head + len(value).to_bytes(2, "little") + value
    position = 0
    while True:
        found = Tag(*(int.from_bytes(data_set[position + at : position + at + 2], "little") for at in (0, 2)))
        is_long = data_set[position + 4 : position + 6] in {b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR"}
        begin = position + (12 if is_long else 8)
        end = begin + int.from_bytes(data_set[begin - (4 if is_long else 2) : begin], "little")
        if found >= tag:
            return data_set[:position] + element + data_set[end if found == tag else position :]
        position = end


def refuse_to_load(_: object) -> object:
    raise ValueError(f"cannot load for {PATIENT['PatientName']}")


def fail_elsewhere() -> None:
    """A warning and an exception whose words quote the patient, where nobody of ours is in between."""
    warnings.warn(f"Invalid value: {PATIENT['PatientName']}", stacklevel=1)

    def fail() -> None:
        raise ValueError(f"Invalid value: {PATIENT['PatientID']}")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    logs.get("stages").warning("refused", patient_name=PATIENT["PatientName"], birth=PATIENT["PatientBirthDate"])


def scalar(database: Database, statement: sa.Select[tuple[object]]) -> object:
    with database.read() as connection:
        return connection.execute(statement).scalar_one()


def waiting(database: Database, stage: str) -> list[str]:
    with database.read() as connection:
        rows = connection.execute(sa.select(tables.outbox.c.subject).where(tables.outbox.c.stage == stage))
        return list(rows.scalars())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
