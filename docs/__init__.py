"""The documentation; ``docs.site`` builds the site."""
