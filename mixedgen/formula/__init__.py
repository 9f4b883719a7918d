"""The grammar: a formula's text into its parts."""
