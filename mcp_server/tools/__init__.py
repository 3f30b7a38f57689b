"""The tools: names and prose for the model; a body is one call of a service."""
