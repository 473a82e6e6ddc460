"""Ways to leave fewer video tokens: one file a method."""
