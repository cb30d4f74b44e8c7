"""Vendors' interface files, and how they are built where the robot has no package of its own for them."""
