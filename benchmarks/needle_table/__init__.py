"""Every method at one budget on the held-out needles: rows of answers, and a page with what they say."""
