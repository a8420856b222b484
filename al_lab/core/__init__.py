"""The words of the campaign: pool, query, budget, oracle, candidates, ledger."""
