"""The local cloud: durable jobs of this machine."""
