"""Airflow over its REST API: transport, typed questions and acts, logs."""
