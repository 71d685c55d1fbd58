"""`python -m hessian.postgres.roles <schema> …`: one role for each service, which owns the schema of its own name and may use no other.

The only step that needs the superuser; repeatable, and it sets the passwords anew, which is how they are rotated. It reads
HESSIAN_DATABASE_URL and HESSIAN_DATABASE_PASSWORD_FILE (the superuser's); the roles' own passwords lie beside that file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from pydantic import ValidationError

from hessian.errors import HessianError
from hessian.postgres.engine import database_url, unavailable
from hessian.settings import DatabaseSettings, read_secret


def give_schema(connection: psycopg.Connection[tuple[object, ...]], role: str, password: str) -> None:
    """A role that owns the schema of its own name, sees it first, and may use no other. `connection` commits each statement."""
    name, literal, database = sql.Identifier(role), sql.Literal(password), sql.Identifier(connection.info.dbname)
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    verb = sql.SQL("ALTER" if exists else "CREATE")
    connection.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {} NOSUPERUSER NOCREATEDB NOCREATEROLE").format(verb, name, literal))
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(name, name))
    connection.execute(sql.SQL("ALTER ROLE {} SET search_path = {}").format(name, name))
    connection.execute(sql.SQL("REVOKE ALL ON SCHEMA public FROM PUBLIC"))
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, name))


def give_schemas(settings: DatabaseSettings, passwords: Mapping[str, str]) -> None:
    """Do so for every role. Raises BadSettings, DatabaseUnavailable."""
    url = database_url(settings)
    try:
        with psycopg.connect(
            host=url.host, port=url.port, user=url.username, password=url.password, dbname=url.database, autocommit=True, connect_timeout=10
        ) as connection:
            for role, password in passwords.items():
                give_schema(connection, role, password)
    except psycopg.OperationalError as error:
        raise unavailable(error) from error


def main(roles: list[str]) -> None:
    """The command line."""
    if not roles:
        sys.exit("usage: python -m hessian.postgres.roles <schema> …")
    settings = DatabaseSettings()
    secrets: Path = settings.database_password_file.parent
    give_schemas(settings, {role: read_secret(secrets / f"{role}.database-password") for role in roles})
    print(f"roles and schemas: {', '.join(roles)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValidationError as error:
        sys.exit("roles: " + "; ".join(f"HESSIAN_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()))
    except HessianError as error:
        sys.exit(f"roles: {error}")
