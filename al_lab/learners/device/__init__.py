"""What a training does with the device it runs on."""
