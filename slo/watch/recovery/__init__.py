"""What is done about it without people: typed remedies, bounded and judged."""
