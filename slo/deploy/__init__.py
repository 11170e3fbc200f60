"""Bring the model up on this machine: files, server process, registration, launch, proof."""
