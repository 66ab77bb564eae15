"""Read models and assets of the web application."""
