"""What a batch would be worth, guessed from batches whose worth was measured."""
