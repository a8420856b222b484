"""What a person types: the command, its mistakes, sweeps, the doctor."""
