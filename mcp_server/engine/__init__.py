"""The engine: a Prefect server and a worker of this machine, or a Prefect server elsewhere."""
