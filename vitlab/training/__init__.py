"""Training the networks of the zoo."""
