"""Postgres: one engine per service, one transaction per request, column types that know their units."""
