"""Datasets over the real API and database: whole or not at all, encrypted, forgotten when deleted, recognised when they come back."""

from __future__ import annotations

import asyncio
import io
import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from owner_node import Owner, OwnerNode, bearer, dataset_query, eventually, run_owner_node
from small_model import Rows, specification
from sqlalchemy import func, select
from starlette.requests import ClientDisconnect

from devstack.anvil import Anvil
from devstack.contracts import Deployment
from hessian.errors import DatabaseUnavailable
from hessian.identifiers import Digest
from hessian.learning.formats import TableFormat, framed
from hessian.learning.streaming import statistics_of
from hessian.uploads import AT_ONCE, WAITING, UploadsBusy
from owner_api import tables
from owner_api.datasets import fingerprints, lineage, service
from owner_api.datasets.service import UploadCutOff
from owner_api.datasets.validation import Summary, validate
from owner_api.tables import Dataset, Enrollment, Release, RowFingerprint

PARQUET = TableFormat.PARQUET.value


@pytest.fixture
async def node(anvil: Anvil, repository_contract: Deployment, database_url: str, tmp_path: Path) -> AsyncIterator[OwnerNode]:
    async with run_owner_node(
        anvil,
        repository_contract.address,
        database_url,
        tmp_path,
        work=False,
        dataset_rows=500,
        dataset_bytes=60_000,
        dataset_decoded_bytes=1_000_000,
    ) as (here, _):
        yield here


def files(node: OwnerNode) -> list[Path]:
    return list(node.world.settings.data_directory.iterdir())


async def dataset_row(node: OwnerNode, identity: str) -> Dataset:
    async with node.world.database.begin() as session:
        return await session.get_one(Dataset, uuid.UUID(identity))


async def test_upload__a_good_csv__is_described_encrypted_and_readable_by_the_node_alone(node: OwnerNode) -> None:
    owner = await node.owner("first")
    rows = Rows(1, 300)
    answer = await owner.request("POST", "/v1/datasets", params=dataset_query(), content=rows.csv())
    made = answer.json()
    assert (answer.status_code, made["rows"], made["columns"]) == (201, 300, ["income", "age", "region", "Class"])
    assert made == await owner.get(f"/v1/datasets/{made['id']}")
    (file,) = files(node)
    data = file.read_bytes()
    assert b"income" not in data
    assert rows.csv()[:40] not in data
    assert file.stat().st_mode & 0o077 == 0 or file.parent.stat().st_mode & 0o077 == 0
    assert b"".join([chunk async for chunk in node.world.datasets.stream(uuid.UUID(made["id"]))]) == rows.csv()


async def test_upload__parquet__is_the_same_dataset_as_its_csv(node: OwnerNode) -> None:
    owner, rows = await node.owner("columns"), Rows(1, 200)
    first = (await owner.request("POST", "/v1/datasets", params=dataset_query(), content=rows.csv())).json()
    answer = await owner.request("POST", "/v1/datasets", params=dataset_query(), content=rows.parquet(), headers={"content-type": PARQUET})
    made = answer.json()
    assert (answer.status_code, made["rows"], made["columns"]) == (201, 200, first["columns"]), answer.text
    assert made["lineage"] == first["lineage"]
    stream = b"".join([chunk async for chunk in node.world.datasets.stream(uuid.UUID(made["id"]))])
    assert stream == framed(rows.parquet()) + rows.parquet()
    assert statistics_of([stream], specification()) == statistics_of([rows.csv()], specification())


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (Rows(1, 20).csv(), PARQUET, "is text/csv"),
        (Rows(1, 20).parquet(), "text/csv", "is application/vnd.apache.parquet"),
        (Rows(1, 20).parquet()[:-40], PARQUET, "cut off"),
        (b"PAR1" + bytes(400), PARQUET, "cut off"),
        (b"PAR1" + bytes(400) + b"\x10\0\0\0PAR1", PARQUET, "cut off"),
        (b"PK\x03\x04" + bytes(400), "text/csv", "zip archive or a spreadsheet"),
    ],
)
async def test_upload__another_form_than_it_claims__is_refused_with_a_sentence(node: OwnerNode, data: bytes, kind: str, says: str) -> None:
    owner = await node.owner("confused")
    answer = await owner.request("POST", "/v1/datasets", params=dataset_query(), content=data, headers={"content-type": kind})
    assert (answer.status_code, says in answer.json()["detail"]) == (422, True), answer.text
    assert files(node) == []


async def test_upload__as_something_else_than_csv__is_refused(node: OwnerNode) -> None:
    owner, good = await node.owner("posting forms"), Rows(1, 20).csv()
    for kind, status in (("application/x-www-form-urlencoded", 422), ("application/octet-stream", 422), ("Text/CSV; charset=utf-8", 201)):
        headers = {"content-type": kind}
        answer = await owner.request("POST", "/v1/datasets", params=dataset_query(), content=good, headers=headers)
        assert answer.status_code == status, answer.text
        assert status == 201 or (answer.json()["title"], kind in answer.json()["detail"]) == ("NotATable", True)


async def test_upload__each_bad_one__leaves_no_file_and_no_row(node: OwnerNode) -> None:
    owner = await node.owner("careless")
    good = Rows(1, 20).csv()
    cases: list[tuple[bytes, dict[str, str], int]] = [
        (b"", {}, 422),
        (b"income,Class\n", {}, 422),
        (b"income,Class\n1,bad\n", {}, 422),
        (good.replace(b"Class", b"Label"), {}, 422),
        (good + b"1,2,3\n", {}, 422),
        (good + b"nan,2,N,bad\n", {}, 422),
        (good + b"1,2,N,perhaps\n", {}, 422),
        (b"\xff\xfe" + good, {}, 422),
        (good, {"label": "income"}, 422),
        (good, {"label": ""}, 422),
        (good, {"name": "nul\x00"}, 422),
        (Rows(1, 501).csv(), {}, 413),
        (b"income,Class\n" + b"x" * 60_000, {}, 413),
    ]
    for data, query, status in cases:
        answer = await owner.request("POST", "/v1/datasets", params=dataset_query() | query, content=data)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert files(node) == []
    assert (await owner.get("/v1/datasets"))["items"] == []
    async with node.world.database.begin() as session:
        assert (await session.execute(select(func.count()).select_from(RowFingerprint))).scalar_one() == 0


async def test_upload__over_the_limit_without_a_declared_length__is_cut_at_the_limit(node: OwnerNode) -> None:
    owner, sent = await node.owner("chunky"), 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b"income,Class\n"
        for _ in range(1_000):
            sent += 1
            yield b"1,good\n2,bad\n" * 1_000

    answer = await owner.request("POST", "/v1/datasets", params=dataset_query(), content=body())
    assert (answer.status_code, answer.json()["title"]) == (413, "DatasetTooLarge")
    assert "60000 bytes" in answer.json()["detail"]
    assert files(node) == []


async def test_upload__client_gone_in_the_middle__leaves_nothing(node: OwnerNode) -> None:
    owner = await node.owner("unsteady")
    async with node.world.database.begin() as session:
        row = await session.get_one(tables.Owner, uuid.UUID(owner.id))

    async def body() -> AsyncIterator[bytes]:
        yield Rows(1, 100).csv()
        raise ClientDisconnect

    with pytest.raises(UploadCutOff):
        await service.receive(node.world, row, "cut", "Class", "bad", body())
    assert files(node) == []
    assert (await owner.get("/v1/datasets"))["items"] == []


async def test_upload__the_same_twice_at_once__is_kept_once(node: OwnerNode) -> None:
    owner, other = await node.owner("twice"), await node.owner("somebody else")
    request = {"params": dataset_query(), "content": Rows(3, 50).csv()}
    answers = await asyncio.gather(*(owner.request("POST", "/v1/datasets", **request) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert len(files(node)) == 1
    assert (await other.request("POST", "/v1/datasets", **request)).status_code == 201


async def test_upload__decodes_to_more_than_allowed__is_refused(node: OwnerNode) -> None:
    owner = await node.owner("bomber")
    cell = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), pa.array(["x" * 4_000]))
    file = io.BytesIO()
    pq.write_table(pa.table({"Class": ["good", "bad"] * 200, **{f"c{number}": cell for number in range(8)}}), file, write_statistics=False)
    answer = await owner.request("POST", "/v1/datasets", params=dataset_query(), content=file.getvalue(), headers={"content-type": PARQUET})
    assert (answer.status_code, answer.json()["title"]) == (413, "DecodedTooLarge"), answer.text
    assert files(node) == []


async def test_upload__every_place_taken__is_told_to_come_back_and_the_rest_of_the_node_answers(
    node: OwnerNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, at_once, go_on = await node.owner("crowd"), list[int](), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Summary:
        at_once.append(1)
        assert go_on.wait(30)
        return validate(*arguments, **options)

    monkeypatch.setattr(service, "validate", slow)
    uploads = [
        asyncio.create_task(owner.request("POST", "/v1/datasets", params=dataset_query(f"{number}"), content=Rows(number, 20).csv()))
        for number in range(AT_ONCE + WAITING)
    ]

    async def started() -> tuple[int, int]:
        return len(at_once), len(files(node))

    async def is_full() -> bool:
        try:
            node.world.uploads.require_one()
        except UploadsBusy:
            return True
        return False

    await eventually(started, lambda found: found == (AT_ONCE, AT_ONCE + WAITING))
    await eventually(is_full, bool)
    await eventually(
        lambda: owner.request("POST", "/v1/datasets", params=dataset_query(), content=b""), lambda said: said.status_code == 503
    )
    refused = await owner.request("POST", "/v1/datasets", params=dataset_query(), content=Rows(99, 20).csv())
    assert (refused.status_code, refused.json()["title"], "retry-after" in refused.headers) == (503, "UploadsBusy", True)
    assert (await owner.get("/v1/datasets"))["items"] == []  # answered, while all of them wait
    go_on.set()
    assert {answer.status_code for answer in await asyncio.gather(*uploads)} == {201}
    assert len(at_once) == AT_ONCE + WAITING


async def test_upload__while_it_is_written__the_owners_money_and_token_are_not_locked(
    node: OwnerNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, begun, go_on = await node.owner("impatient"), asyncio.Event(), asyncio.Event()
    remember = lineage.remember

    async def slow(*arguments: Any) -> None:
        await remember(*arguments)
        begun.set()
        await go_on.wait()

    monkeypatch.setattr(lineage, "remember", slow)
    upload = asyncio.create_task(owner.upload(Rows(1, 30)))
    await begun.wait()
    answer = await owner.request("POST", "/v1/withdrawals", headers={"Idempotency-Key": "meanwhile-1"})
    assert (answer.status_code, answer.json()["title"]) == (409, "NothingToWithdraw")
    body = {"to": "0x" + 20 * "5c", "amount_wei": "1"}
    sent = await owner.request("POST", "/v1/transfers", json=body, headers={"Idempotency-Key": "meanwhile-2"})
    assert sent.status_code == 202, sent.text
    replaced = await node.api.post(f"/v1/owners/{owner.id}/token", headers=bearer("admin-token"))
    assert replaced.status_code == 201, replaced.text
    go_on.set()
    await upload


async def test_upload__fingerprints_of_several_batches__are_kept_once_each(node: OwnerNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "BATCH", 16)
    owner, rows = await node.owner("batches"), Rows(1, 100).csv()
    doubled = rows + b"".join(rows.splitlines(keepends=True)[1:])
    answer = await owner.request("POST", "/v1/datasets", params=dataset_query(), content=doubled)
    assert answer.json()["rows"] == 200
    async with node.world.database.begin() as session:
        assert (await session.execute(select(func.count()).select_from(RowFingerprint))).scalar_one() == 200
    again = await owner.upload(Rows(1, 100), "without the doubles")
    assert (await owner.get(f"/v1/datasets/{again}"))["lineage"] == answer.json()["lineage"]


async def test_lineage__versions_that_share_a_row__are_one_and_can_connect_two(node: OwnerNode) -> None:
    owner, other = await node.owner("versions"), await node.owner("elsewhere")
    first, second = await owner.upload(Rows(1, 30)), await owner.upload(Rows(50, 30), "unrelated")
    lineages = [(await owner.get(f"/v1/datasets/{identity}"))["lineage"] for identity in (first, second)]
    assert lineages[0] != lineages[1]
    joined = Rows(1, 3).csv() + b"".join(Rows(50, 3).csv().splitlines(keepends=True)[1:]) + b"9999,77,N,bad\n"
    third = (await owner.request("POST", "/v1/datasets", params=dataset_query("both"), content=joined)).json()
    again = {(await owner.get(f"/v1/datasets/{identity}"))["lineage"] for identity in (first, second)}
    assert again == {third["lineage"]}
    assert (await other.get("/v1/datasets"))["items"] == []
    same_rows = await other.upload(Rows(1, 30))
    assert (await other.get(f"/v1/datasets/{same_rows}"))["lineage"] not in again


async def enrol(node: OwnerNode, owner: Owner, dataset: str, model_id: int) -> None:
    async with node.world.database.begin() as session:
        session.add(
            Enrollment(
                owner_id=uuid.UUID(owner.id),
                dataset_id=uuid.UUID(dataset),
                model_id=model_id,
                accept_alone=False,
                rows=30,
                manifest_digest=Digest(bytes(32)),
                cohort_size=5,
            )
        )


async def release(node: OwnerNode, lineage: uuid.UUID) -> None:
    async with node.world.database.begin() as session:
        session.add(Release(lineage=lineage, chain_id=1, contract=node.world.repository.address, model_id=1, cohort_id=1, round_id=1))


def both(first: Rows, second: Rows) -> bytes:
    """Rows of two datasets, and one more."""
    return first.csv() + b"".join(second.csv().splitlines(keepends=True)[1:]) + b"9999,77,N,bad\n"


async def test_lineage__the_same_file_with_another_label__is_the_same(node: OwnerNode) -> None:
    owner = await node.owner("two labels")
    rows = b"".join(b"%d,%d,%s,%s\n" % (row, row * 7, *((b"bad", b"good") if row % 3 else (b"good", b"bad"))) for row in range(40))
    lineages = set()
    for label in ("Class", "Other"):
        query = dataset_query() | {"label": label}
        answer = await owner.request("POST", "/v1/datasets", params=query, content=b"income,age,Class,Other\n" + rows)
        lineages.add(answer.json()["lineage"])
    assert len(lineages) == 1


async def test_lineage__rows_with_one_more_column__are_what_their_owner_says(node: OwnerNode) -> None:
    owner, other = await node.owner("adds a column"), await node.owner("somebody else")
    first = await owner.upload(Rows(1, 30))
    lineage = (await owner.get(f"/v1/datasets/{first}"))["lineage"]
    header, *lines = Rows(1, 30).csv().splitlines()
    content = b"\n".join([header + b",id", *(line + b",%d" % number for number, line in enumerate(lines))])
    for uploader, version_of, status in ((other, first, 404), (owner, str(uuid.uuid4()), 404), (owner, "no id", 422), (owner, first, 201)):
        answer = await uploader.request("POST", "/v1/datasets", params=dataset_query() | {"version_of": version_of}, content=content)
        assert answer.status_code == status, answer.text
    assert answer.json()["lineage"] == lineage
    assert len(files(node)) == 2


async def test_lineage__upload_that_connects_two_in_use__is_refused(node: OwnerNode) -> None:
    owner = await node.owner("entangled")
    rows = [Rows(1, 30), Rows(50, 30), Rows(99, 30)]
    datasets = [await owner.upload(part, f"part {number}") for number, part in enumerate(rows)]
    await enrol(node, owner, datasets[0], model_id=1)
    await enrol(node, owner, datasets[1], model_id=2)
    await release(node, (await dataset_row(node, datasets[2])).lineage)
    before = [(await dataset_row(node, dataset)).lineage for dataset in datasets]
    for first, second in ((0, 1), (0, 2)):
        answer = await owner.request("POST", "/v1/datasets", params=dataset_query("both"), content=both(rows[first], rows[second]))
        assert (answer.status_code, answer.json()["title"]) == (409, "LineagesInUse")
    assert [(await dataset_row(node, dataset)).lineage for dataset in datasets] == before
    assert len(files(node)) == 3
    assert (await owner.request("POST", "/v1/datasets", params=dataset_query(), content=both(rows[0], Rows(7, 5)))).status_code == 201


@pytest.mark.parametrize("committed", [True, False])
async def test_upload__answer_to_the_commit_is_lost__file_and_row_stay_or_go_together(
    node: OwnerNode, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    owner = await node.owner("unlucky")
    insert = service._insert

    async def lost(*arguments: Any) -> None:
        if committed:
            await insert(*arguments)
        raise DatabaseUnavailable

    monkeypatch.setattr(service, "_insert", lost)
    answer = await owner.request("POST", "/v1/datasets", params=dataset_query(), content=Rows(1, 30).csv())
    assert answer.status_code == (201 if committed else 503)
    listed = (await owner.get("/v1/datasets"))["items"]
    assert [item["id"] for item in listed] == [file.stem for file in files(node)] == ([answer.json()["id"]] if committed else [])


async def test_delete__a_dataset__removes_file_and_fingerprints(node: OwnerNode) -> None:
    owner = await node.owner("forgetful")
    dataset = await owner.upload(Rows(1, 30))
    assert (await owner.request("DELETE", f"/v1/datasets/{dataset}")).status_code == 204
    assert files(node) == []
    for method in ("GET", "DELETE"):
        assert (await owner.request(method, f"/v1/datasets/{dataset}")).status_code == 404
    async with node.world.database.begin() as session:
        assert (await session.execute(select(func.count()).select_from(RowFingerprint))).scalar_one() == 0
    row = await dataset_row(node, dataset)
    assert (row.name, row.column_names, row.label, row.positive_value, row.digest) == ("", [], "", "", bytes(32))
    await owner.upload(Rows(1, 30))  # and the same bytes may come again


async def test_delete__rows_that_were_released__are_recognised_when_they_come_back(node: OwnerNode) -> None:
    owner = await node.owner("resourceful")
    dataset = await owner.upload(Rows(1, 30))
    row = await dataset_row(node, dataset)
    await release(node, row.lineage)
    assert (await owner.request("DELETE", f"/v1/datasets/{dataset}")).status_code == 204
    again = await owner.upload(Rows(1, 45), "the same people, and some more")
    assert (await owner.get(f"/v1/datasets/{again}"))["lineage"] == str(row.lineage)


async def test_delete__while_an_enrolment_is_active__is_refused(node: OwnerNode) -> None:
    owner = await node.owner("busy")
    dataset = await owner.upload(Rows(1, 30))
    await enrol(node, owner, dataset, model_id=1)
    answer = await owner.request("DELETE", f"/v1/datasets/{dataset}")
    assert (answer.status_code, answer.json()["title"]) == (409, "DatasetInUse")
    assert len(files(node)) == 1


async def test_sweep__leftovers_of_a_kill__are_removed_and_datasets_stay(node: OwnerNode) -> None:
    owner = await node.owner("swept")
    dataset = await owner.upload(Rows(1, 30))
    directory = node.world.settings.data_directory
    for name in (f"{uuid.uuid4()}.part", f"{uuid.uuid4()}.rows"):
        (directory / name).write_bytes(b"left behind")
    await service.sweep(node.world.database, node.world.datasets)
    assert [file.name for file in files(node)] == [f"{dataset}.rows"]


async def test_list__pages_of_one__are_complete_and_in_order(node: OwnerNode) -> None:
    owner = await node.owner("many")
    made = [await owner.upload(Rows(number, 20), f"number {number}") for number in range(3)]
    seen, after = [], ""
    while after is not None:
        found = await owner.get(f"/v1/datasets?limit=1&after={after}")
        seen += [item["id"] for item in found["items"]]
        after = found.get("next")
    assert seen == made
    for bad in ("limit=0", "limit=-1", "limit=1000000000", "after=nonsense", "after=eDE"):
        assert (await owner.request("GET", f"/v1/datasets?{bad}")).status_code == 422
