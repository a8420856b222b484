"""What keeps a network fed: images prepared a second and core, and what a training step takes beside the network."""
