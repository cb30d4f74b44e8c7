"""Episodes on disk: one MCAP file each, readable by Foxglove, PlotJuggler and `ros2 bag`."""
