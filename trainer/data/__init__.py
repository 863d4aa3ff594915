"""From samples to tensors: images, sound, tokens, batches."""
