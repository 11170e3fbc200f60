"""What is remembered: minutes, alerts, actions and agreements, in SQLite."""
