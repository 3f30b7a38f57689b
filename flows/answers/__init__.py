"""Short flow runs whose result answers a question to the worker."""
