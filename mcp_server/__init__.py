"""The MCP server: runs beside the client and talks to Prefect over REST."""
