"""What jobs may spend and what they have spent: pure functions, and the prices of machines."""
