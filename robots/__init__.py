"""A Franka arm, its cameras and its operator, behind the Gymnasium interface of the Franka tasks."""
