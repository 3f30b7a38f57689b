"""Copies the results of a job to a folder of this machine, as a flow run of its own."""
