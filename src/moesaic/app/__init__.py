"""The web page and its server: `moesaic serve`."""
