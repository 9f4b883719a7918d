"""What a fit says of itself and of its records: checks, sentences, influence."""
