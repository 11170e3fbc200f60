"""Inside the model process: from a model directory to vectors."""
