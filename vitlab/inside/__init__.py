"""What happens inside a network: tokens, attention, lesions, probes, episodes."""
