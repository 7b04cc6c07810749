"""What joins farl and robots: a post-training session on an arm. A composition root; only ``farl.cli`` imports it."""
