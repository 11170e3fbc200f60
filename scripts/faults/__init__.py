"""`make faults`: break a real server and a real watch in every way we know, and write down what happened."""
