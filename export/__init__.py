"""Torch checkpoint to policy bundle, one package per policy family. May import torch; the runtime
never imports this."""
