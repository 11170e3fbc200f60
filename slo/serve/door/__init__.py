"""Inside the API process: from a request to its answer."""
