"""Where mixtures are drawn: loops for the CPU, and what every backend shares."""
