"""The report: one log under one policy as a plain document, and that document as one HTML file without a script."""
