"""The degradations for batches of tensors on any device, held to the NumPy ones by tests."""
