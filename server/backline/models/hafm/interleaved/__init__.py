"""The published layout: three stages whose conditioning stands in one sequence with their predictions."""
