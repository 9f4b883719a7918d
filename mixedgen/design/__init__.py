"""From a parsed formula, a frame and relationships to the matrices of a model."""
