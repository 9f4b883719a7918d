"""Profile and bootstrap intervals."""
