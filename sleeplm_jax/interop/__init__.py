"""PyTorch out, SleepLM in and out."""
