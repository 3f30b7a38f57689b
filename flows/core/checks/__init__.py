"""What can be told before a launch by reading files alone: light, for the server and the worker."""
