"""What numbers over seeds allow to say."""
