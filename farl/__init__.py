"""FARL: failure-aware offline-to-online reinforcement learning that makes post-training on a manipulator reliable."""

__version__ = "0.1.0"
