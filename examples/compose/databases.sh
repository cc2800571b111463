#!/bin/sh
# Run by Postgres' image when its volume is empty: Airflow's database, and the knowledge base with
# its two roles (docs/knowledge-base.md).
set -eu
psql --username postgres --no-psqlrc --set ON_ERROR_STOP=1 <<'SQL'
\set airflow `cat /run/secrets/airflow_db_password`
\set owner `cat /run/secrets/kb_owner_password`
\set aiops `cat /run/secrets/kb_password`
CREATE ROLE airflow LOGIN PASSWORD :'airflow';
CREATE DATABASE airflow OWNER airflow;
CREATE ROLE aiops_owner LOGIN PASSWORD :'owner';
CREATE ROLE aiops LOGIN PASSWORD :'aiops';
CREATE DATABASE aiops OWNER aiops_owner;
REVOKE TEMPORARY ON DATABASE aiops FROM PUBLIC;
\connect aiops
CREATE EXTENSION vector;
SQL
