"""What MGRAL's own numbers say of it: did the agent beat chance, can its table be trusted, what did it cost."""
