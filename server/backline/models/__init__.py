"""Model families, one folder each, all behind the Stream interface."""
