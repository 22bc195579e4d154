"""Files that a contributor would write, for the four recipes of ``CONTRIBUTING.md``.

``tests/house/test_extending.py`` copies them into a copy of the project. Each module imports
names that exist in that copy only.
"""
