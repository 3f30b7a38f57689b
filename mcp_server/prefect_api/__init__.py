"""Prefect's REST API: the only way the server reaches Prefect."""
