"""One job: its flow, its attempts, its watch, its record on the flow run."""
