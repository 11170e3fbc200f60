"""Show what was recorded: tables for terminals, pages for people, exports for machines."""
