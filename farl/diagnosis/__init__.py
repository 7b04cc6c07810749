"""Where the failures of a run come from: which part let them happen, and whether anything could have avoided them."""
