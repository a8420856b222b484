"""What the heads beside a detector (`al_lab.models.detectors.branches`) minimize."""
