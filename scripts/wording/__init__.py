"""The texts that a person can meet, read from the code."""
