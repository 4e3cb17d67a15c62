"""What a training will need and how fast it could go, on devices that are not here."""
