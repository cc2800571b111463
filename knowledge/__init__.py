"""The knowledge base: what failed before, what was done about it and whether that helped.

Knows no Airflow client, no terminal and no talking model; `aiops_cli` builds on it, never
the other way round (held by the import contracts in pyproject.toml).
"""
