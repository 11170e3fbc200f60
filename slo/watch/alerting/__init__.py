"""When somebody is told, and what: rules, life of an alert, grouping, cause, message."""
