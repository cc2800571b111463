#!/bin/sh
# Makes ./secrets, once: random passwords and the addresses that hold them. To begin anew, remove
# the folder and the volumes (docker compose down --volumes).
set -eu
cd "$(dirname "$0")"
# Mounted into containers whose users have other ids, whatever your umask was.
chmod -R a+rX aiops.yaml databases.sh ../dags
if [ -d secrets ]; then
    echo "secrets/ is there already: nothing was changed"
    exit 0
fi
umask 077
new=$(mktemp -d secrets.XXXXXX) # nobody else may enter it
trap 'rm -rf "$new"' EXIT

random() {
    od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n'
}

secret() { # NAME VALUE
    printf '%s' "$2" >"$new/$1"
    # Each is mounted into containers whose users have other ids. The folder keeps others out.
    chmod 0444 "$new/$1"
}

airflow_db=$(random) admin=$(random) aiops=$(random) owner=$(random) kb=$(random)
secret postgres_password "$(random)"
secret airflow_db_password "$airflow_db"
secret airflow_db_url "postgresql+psycopg2://airflow:$airflow_db@postgres/airflow"
secret airflow_fernet_key "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
secret airflow_api_secret "$(random)"
secret airflow_jwt_secret "$(random)$(random)"
secret airflow_logins "{\"admin\": \"$admin\", \"aiops\": \"$aiops\"}"
secret airflow_aiops_password "$aiops"
secret kb_owner_password "$owner"
secret kb_owner_url "postgresql://aiops_owner:$owner@postgres/aiops"
secret kb_password "$kb"
secret kb_url "postgresql://aiops:$kb@postgres/aiops"
mv "$new" secrets
trap - EXIT
echo "secrets/ is made; the passwords of Airflow's users are in secrets/airflow_logins"
