"""owner-api's migrations: what an older release left is kept, and the end is exactly what the rows need."""

from __future__ import annotations

import uuid

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError

from devstack.toolchain import ROOT
from owner_api.migration import migrate
from owner_api.tables import Base

OWNER, DATASET = uuid.uuid4(), uuid.uuid4()
_OWNER = text("insert into owners (id, name, address, keystore, token_hash) values (:id, :name, :name, '{}', :token)")
_DATASET = text(
    """insert into datasets (id, owner_id, name, label, positive_value, column_names, rows, size, digest, lineage)
       values (:id, :owner, '', '', '', '[]', 1, 1, '\\x00', :id)"""
)
_APPLICATION = text(
    """insert into applications (id, owner_id, contract, deployment_id, model_id, lender_key, manifest_digest, weights_digest,
                                 scoring_digest, mode, state, fee, cells, answer_key, query_digest, requests, tries, erased_at)
       values (:owner, :owner, '', 1, 1, '', '', '', '', 'private', 'quoted', 7, '', '', '\\x5c', 1, 0, now())"""
)


@pytest.fixture
def engine(database_url: str) -> Engine:
    return create_engine(database_url, connect_args={"options": "-c lock_timeout=200"})


def test_migrations__database_of_the_last_release__keeps_its_owners_and_applications(database_url: str, engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "services/owner-api/migrations"))
    config.attributes["url"] = database_url
    command.upgrade(config, "0004")
    with engine.begin() as connection:
        connection.execute(_OWNER, {"id": OWNER, "name": "kept", "token": b"token"})
        connection.execute(_APPLICATION, {"owner": OWNER})
    migrate(database_url)
    with engine.connect() as connection:
        owner = connection.execute(text("select id, name, token_hash from owners")).one()
        application = connection.execute(text("select owner_id, fee, query_digest, unpinned_at from applications")).one()
    assert (tuple(owner), tuple(application)) == ((OWNER, "kept", b"token"), (OWNER, 7, b"\x5c", None))
    with pytest.raises(IntegrityError, match="uq_owners_token_hash"), engine.begin() as connection:
        connection.execute(_OWNER, {"id": uuid.uuid4(), "name": "other", "token": b"token"})
    engine.dispose()


def test_migrations__brought_to_head__let_a_token_change_while_an_upload_holds_the_owner(database_url: str, engine: Engine) -> None:
    migrate(database_url)
    with engine.begin() as connection:
        connection.execute(_OWNER, {"id": OWNER, "name": "busy", "token": b"token"})
    with engine.begin() as upload:
        upload.execute(_DATASET, {"id": DATASET, "owner": OWNER})
        with engine.begin() as connection:
            connection.execute(text("update owners set token_hash = 'another'"))
        with pytest.raises(OperationalError, match="lock timeout"), engine.begin() as connection:
            connection.execute(text("update owners set name = 'another'"))  # what a foreign key could name is held
    engine.dispose()


def test_migrations__brought_to_head__equal_the_tables(database_url: str, engine: Engine) -> None:
    migrate(database_url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    engine.dispose()
    assert differences == []
