"""Keep the promise: check it every minute and say so when it breaks."""
