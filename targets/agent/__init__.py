"""What travels to the device: standard library, numpy and one runtime; knows nothing of the rest of kbit."""
