"""How a detector looks more than once: passes with dropout, members of an ensemble, and their average."""
