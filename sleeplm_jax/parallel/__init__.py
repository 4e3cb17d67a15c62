"""Meshes, sharding rules and placing batches on devices."""
