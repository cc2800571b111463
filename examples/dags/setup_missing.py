"""What somebody forgot to set up in Airflow after a move to a new environment."""

from __future__ import annotations

from airflow.sdk import Connection, Variable, dag, task


@dag(schedule=None, tags=["example"])
def crm_export() -> None:
    """Nobody made the connection `crm_api`. Once it is there, trying again helps.

    Fails: `export_contacts` with `crm_api`
    """

    @task
    def export_contacts() -> str:
        return Connection.get("crm_api").get_uri()

    export_contacts()


@dag(schedule=None, tags=["example"])
def weekly_mail() -> None:
    """Nobody made the variable `mail_recipients`. Once it is there, trying again helps.

    Fails: `send_mail` with `mail_recipients`
    """

    @task
    def send_mail() -> int:
        return len(Variable.get("mail_recipients").split(","))

    send_mail()


crm_export()
weekly_mail()
