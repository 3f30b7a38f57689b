"""The Prefect worker of type `oumi`: one warm process that runs every flow."""
