"""MetaWorld's dense rewards, number for number."""
