"""MCP Tasks: a call that waits for a job answers a handle of the wait instead."""
