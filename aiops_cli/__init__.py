"""`aiops`: triage of Airflow failures that never acts on a guess."""

__version__ = "0.1.0"
