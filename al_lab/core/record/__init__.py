"""What a run folder records: fingerprint, ledger, purchases, labels, predictions."""
