"""MuJoCo twin of the robot: the physical scene, the task played on it, and the node that speaks the
real driver's topics."""
