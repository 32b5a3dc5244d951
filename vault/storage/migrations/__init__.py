"""Numbered steps that bring a database to the present shape.

Rule of this room: a released step is never edited; each runs once, inside the transaction that records it.
"""
