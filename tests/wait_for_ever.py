"""A program that says that it runs, and then writes nothing and does not end."""

import signal

if __name__ == "__main__":
    print("waiting", flush=True)
    signal.pause()
