"""How the agent learns: its policy, what a batch is worth to it, and the numbers of both."""
