"""What the worker and the MCP server both load: words, values, configs, logs, checks of files."""
