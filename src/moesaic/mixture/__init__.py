"""A picture as steered experts: the mixture, its renderers, and the fit."""
