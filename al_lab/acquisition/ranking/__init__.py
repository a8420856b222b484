"""From a ranking to what is bought: budgets, and what they are to hold."""
