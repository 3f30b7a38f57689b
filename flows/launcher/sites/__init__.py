"""Single sites and services: Frontier, Perlmutter, Polaris, Modal."""
