"""Short flows with which the worker answers questions of the MCP server."""
