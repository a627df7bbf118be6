"""Rows. The only SQL of the program lives here; everybody else calls verbs that say what they require and whether
they won.
"""
