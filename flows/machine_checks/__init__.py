"""What can be told before a launch on the worker's machine alone: hardware, hub, credentials."""
